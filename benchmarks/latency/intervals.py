"""How often measured latency ratios lie inside their 95 % intervals, on this machine.

    python benchmarks/latency/intervals.py [CONFIG] [--networks 99] [--seed 1]

Calibrates as a search does that says `hardware.latency: calibrated`, draws fresh candidates of the
config's space (a third all 8-bit, a third all float, a third mixed), and times each beside the
uncompressed model as `verify` does. Per mix of precision: the share inside the interval with its
binomial error, the mean width of the intervals, the mean error and the bias; and how the
uncompressed model's own seconds went meanwhile. Exit code 1 where a share is more than two binomial
errors below 95 %.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import torch

from paredown.hardware_models.latency import MIXES, mixes_of
from paredown.hardware_models.timing import measure_ratio, why_not_timed
from paredown.hardware_models.work import read_work
from paredown.search.bundles import BLOCKS, SESSIONS
from paredown.search.calibrating import export, latency_model, reference_work, sample_candidates
from paredown.search.config import load_config
from paredown.search.evaluating import survey
from paredown.spaces.candidates import draft

COVERAGE = 0.95


def main() -> int:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", nargs="?", default="examples/digits.yaml")
    parser.add_argument("--networks", type=int, default=99)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    surveyed = survey(load_config(arguments.config))
    space, threads = surveyed.space, surveyed.config.hardware.threads
    started = time.perf_counter()
    model, _ = latency_model("calibrated", surveyed.device, threads, space, None)
    print(f"{model.source}; calibrated in {time.perf_counter() - started:.0f} s")
    reference = reference_work(space)
    # The references come first, and every calibration knows them.
    fresh = sample_candidates(space, arguments.networks + 2, arguments.seed)[2:]
    works = [read_work(draft(space.model_map(c), c)) for c in fresh]
    files = {i: file for i, w in enumerate(works) if why_not_timed(file := export(w)) is None}
    rows, base_s = [], []
    for index, file in files.items():
        found = measure_ratio(
            file,
            export(reference),
            threads=threads,
            instances=SESSIONS,
            blocks=BLOCKS,
        )
        base_s.append(found.baseline.mean_s)
        predicted = model.predict_ratio(works[index], reference)
        inside = predicted.low <= found.ratio <= predicted.high
        rows.append(
            (
                inside,
                (predicted.high - predicted.low) / predicted.value,
                found.ratio / predicted.value - 1,
            )
        )
    predicted = model.predict(reference)
    print(
        f"uncompressed: predicted {1e6 * predicted.value_s:.1f} us ({1e6 * predicted.low_s:.1f} to "
        f"{1e6 * predicted.high_s:.1f}), beside the candidates {1e6 * np.median(base_s):.1f} us "
        f"({1e6 * min(base_s):.1f} to {1e6 * max(base_s):.1f})"
    )
    table = np.array(rows)
    mixes = mixes_of([works[index] for index in files])
    print(f"{'networks':12}{'count':>7}{'inside':>16}{'width':>9}{'error':>9}{'bias':>9}")
    failed = False
    groups = {"all": mixes >= 0, **{name: mixes == i for i, name in enumerate(MIXES)}}
    for name, chosen in groups.items():
        if not chosen.any():
            continue
        inside, width, error = table[chosen].T
        spread = (COVERAGE * (1 - COVERAGE) / len(inside)) ** 0.5
        failed |= bool(inside.mean() < COVERAGE - 2 * spread)
        print(
            f"{name:12}{len(inside):7}{inside.mean():9.1%} ± {spread:4.1%}{width.mean():9.1%}"
            f"{np.abs(error).mean():9.1%}{error.mean():+9.1%}"
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
