"""Predicted latency inside one space against measurements, MACs, BOPs and a table of operators.

    PAREDOWN_DATA=... python benchmarks/latency/one_space.py [CONFIG] [--fitted N]

Fits to N measured candidates of the config's space (one session each) and prices 40 fresh ones,
whose latency is the mean over four fresh sessions, all timed interleaved. The table holds MACs and
BOPs (both scaled to the fitted candidates), the roofline of the device file and a plain look-up
table of single operators, all on the same candidates, and the floor: one session against the mean
of the other three. Exit code 1 if the mean error is above 5 % and 1.3 floors, or the rank
correlation is below 0.95.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import torch

from paredown.hardware_models.latency import (
    Accuracy,
    RooflineLatency,
    accuracy,
    fit,
    fit_best,
    fit_table,
    measure_table,
    naive_table,
)
from paredown.hardware_models.timing import fingerprint, time_interleaved
from paredown.hardware_models.work import Work
from paredown.search.calibrating import space_networks
from paredown.search.config import load_config
from paredown.search.evaluating import survey

HELD_OUT = 40
SESSIONS = 4
BLOCKS = 30
LARGEST_ERROR, FLOORS, LEAST_RANK = 0.05, 1.3, 0.95


def scaled(fitted: np.ndarray, times_s: np.ndarray, fresh: np.ndarray) -> np.ndarray:
    """An affine proxy: what least squares on relative errors makes of one figure."""
    design = np.column_stack([fitted, np.ones(len(fitted))])
    factors, *_ = np.linalg.lstsq(design / times_s[:, None], np.ones(len(fitted)), rcond=None)
    return np.column_stack([fresh, np.ones(len(fresh))]) @ factors


def row(name: str, found: Accuracy) -> str:
    pairs = "-" if found.pairs_ordered is None else f"{found.pairs_ordered:.1%}"
    return f"{name:34}{found.mape:10.1%}{found.error_95:10.1%}{found.spearman:10.3f}{pairs:>10}"


def main() -> int:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", nargs="?", default="examples/cifar10_resnet20.yaml")
    parser.add_argument("--fitted", type=int, default=200)
    arguments = parser.parse_args()
    surveyed = survey(load_config(arguments.config))
    device = surveyed.device
    started = time.perf_counter()
    networks = space_networks(surveyed.space, arguments.fitted + HELD_OUT)
    order = np.random.default_rng(0).permutation(len(networks))
    fitted = [networks[i] for i in order[HELD_OUT:]]
    fresh = [networks[i] for i in order[:HELD_OUT]]
    # One interleaved run for both: the machine's speed shifts by tens of per cent between runs.
    models = [n.model for n in fitted] + [n.model for n in fresh] * SESSIONS
    timed = np.median(time_interleaved(models, 1, 1, BLOCKS), axis=2)[:, 0]
    times_s, rest = timed[: len(fitted)], timed[len(fitted) :]
    sessions = rest.reshape(SESSIONS, len(fresh)).T
    truth_s = sessions.mean(axis=1)
    spent_s = time.perf_counter() - started
    works, others = [n.work for n in fitted], [n.work for n in fresh]
    here = fingerprint(1)
    started = time.perf_counter()
    linear = fit(works, times_s.tolist(), device, fingerprint=here)
    best = fit_best(works, times_s.tolist(), device, fingerprint=here)
    spent_s += time.perf_counter() - started
    preset = RooflineLatency(device)
    naive = naive_table(preset, measure_table(works, device), here)
    corrected = fit_table(naive, works, times_s.tolist())

    def proxy(name: str) -> np.ndarray:
        def read(population: list[Work]) -> np.ndarray:
            return np.array([float(getattr(w, name)) for w in population])

        return scaled(read(works), times_s, read(others))

    few = fit(works[:25], times_s[:25].tolist(), device, fingerprint=here)
    rows = {
        "MACs, affine": proxy("macs"),
        "BOPs, affine": proxy("bops"),
        "roofline of the device file": preset.predict_many(others).value_s,
        "plain table of single operators": naive.predict_many(others).value_s,
        "the table with two factors": corrected.predict_many(others).value_s,
        "calibrated on 25": few.predict_many(others).value_s,
        f"calibrated on {len(fitted)}": linear.predict_many(others).value_s,
        f"chosen: {'learned' if best is not linear else 'calibrated'}"[:33]: best.predict_many(
            others
        ).value_s,
    }
    floor = accuracy(sessions[:, 0].tolist(), sessions[:, 1:].mean(axis=1).tolist())
    print(f"{here}; {len(fitted)} fitted, {len(fresh)} held out, {SESSIONS} sessions each")
    print(f"latencies {truth_s.min() * 1e6:.0f} to {truth_s.max() * 1e6:.0f} us; ", end="")
    print(f"export, timing of all and fits took {spent_s:.0f} s")
    print(f"{'':34}{'error':>10}{'95 %':>10}{'rank':>10}{'pairs':>10}")
    found = {name: accuracy(p.tolist(), truth_s.tolist()) for name, p in rows.items()}
    for name, each in found.items():
        print(row(name, each))
    print(row("floor: one session, others' mean", floor))
    last = list(found.values())[-1]
    inside = np.mean(
        (best.predict_many(others).low_s <= truth_s)
        & (truth_s <= best.predict_many(others).high_s)
    )
    print(f"95 % interval of the chosen model holds {inside:.0%}")
    bound = max(LARGEST_ERROR, FLOORS * floor.mape)
    return int(last.mape > bound or last.spearman < LEAST_RANK)


if __name__ == "__main__":
    sys.exit(main())
