"""Predicted latency of unseen architectures, family by family, against measurements on this machine.

    python benchmarks/latency/families.py [FAMILY ...] [--architectures N]

For each family: N random architectures, eleven random candidates of each, three sessions each. Held
out are whole architectures, a quarter of them in four turns; four networks of each are predicted (20
a turn at the default 20). Fitted are four networks of each other architecture (60), and all eleven
(165; `paredown calibrate` measures 200), of which `fit_best` chooses a linear model or a learned one.
The floor is one session against the mean of the others. The figures are means over the turns. Exit code
1 where the last is above 8 % (MLP 12 %) or orders less than 97 % of the pairs right that differ by 10 %.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import torch

from paredown.hardware_models.devices import host_device
from paredown.hardware_models.latency import Accuracy, RooflineLatency, accuracy, fit_best
from paredown.hardware_models.timing import fingerprint, time_interleaved
from paredown.search.calibrating import FAMILIES, Family, family_networks, loadable

TURNS = 4
SESSIONS = 3
CANDIDATES, PREDICTED = 11, 4
LARGEST_ERROR, LARGEST_ERROR_MLP, LEAST_ORDERED = 0.08, 0.12, 0.97


def row(name: str, family: str, found: Accuracy) -> str:
    pairs = "-" if found.pairs_ordered is None else f"{found.pairs_ordered:.1%}"
    return f"{family:12}{name:14}{found.mape:9.1%}{found.error_95:9.1%}{found.spearman:9.3f}{pairs:>9}"


def measure(family: Family, architectures: int) -> bool:
    """Prints the rows of one family; whether the last keeps the targets."""
    device = host_device()
    count = architectures * CANDIDATES
    networks, left_out = loadable(
        family_networks([family], count, device, lambda _: None, CANDIDATES)
    )
    for reason in left_out:
        print(f"left out: {reason}")
    times = np.median(time_interleaved([n.model for n in networks], 1, SESSIONS, 30), axis=2)
    truth = times.mean(axis=1)
    works = [n.work for n in networks]
    groups = np.array([n.group for n in networks])
    place = np.array([int((groups[:i] == group).sum()) for i, group in enumerate(groups)])
    preset = RooflineLatency(device).predict_many(works).value_s
    rows = {"preset, scaled": np.empty(len(works))}

    def fitted(most: int) -> np.ndarray:
        predicted = np.empty(len(works))
        for turn in range(TURNS):
            out = groups % TURNS == turn
            seen = np.flatnonzero(~out & (place < most))
            held = np.flatnonzero(out)
            model = fit_best(
                [works[i] for i in seen],
                truth[seen].tolist(),
                device,
                fingerprint="",
                groups=groups[seen].tolist(),
            )
            predicted[held] = model.predict_many([works[i] for i in held]).value_s
            scale = np.exp(np.log(truth[seen] / preset[seen]).mean())
            rows["preset, scaled"][held] = preset[held] * scale
        return predicted

    for most in (PREDICTED, CANDIDATES):
        rows[f"fitted to {most * architectures * (TURNS - 1) // TURNS}"] = fitted(most)
    asked = place < PREDICTED
    found = {n: accuracy(p[asked].tolist(), truth[asked].tolist()) for n, p in rows.items()}
    for name, each in found.items():
        print(row(name, family, each))
    floor = accuracy(times[asked, 0].tolist(), times[asked, 1:].mean(axis=1).tolist())
    print(row("floor", family, floor), flush=True)
    last = list(found.values())[-1]
    bound = LARGEST_ERROR_MLP if family == "mlp" else LARGEST_ERROR
    return last.mape <= bound and (last.pairs_ordered or 0.0) >= LEAST_ORDERED


def main() -> int:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=", ".join(FAMILIES))
    parser.add_argument("--architectures", type=int, default=20)
    arguments = parser.parse_args()
    print(fingerprint(1))
    print(f"{'family':12}{'model':14}{'error':>9}{'95 %':>9}{'rank':>9}{'pairs':>9}")
    kept = [measure(f, arguments.architectures) for f in arguments.families or FAMILIES]
    return int(not all(kept))


if __name__ == "__main__":
    sys.exit(main())
