"""Three statistics of timed blocks, by how well each repeats itself on this machine.

    python benchmarks/latency/timing_statistics.py [CONFIG] [--networks 6] [--times 6]

Times candidates of a config's space beside the uncompressed model, each several times in fresh
sessions, and prints the relative standard deviation of their ratio to it by three statistics of the
same blocks: the least of each session, the median of each session, and the median of block by block
ratios, which `measure_ratio` takes. Means over the candidates.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch

from paredown.hardware_models.timing import time_interleaved, why_not_timed
from paredown.hardware_models.work import read_work
from paredown.search.bundles import BLOCKS, SESSIONS
from paredown.search.calibrating import export, reference_work, sample_candidates
from paredown.search.config import load_config
from paredown.search.evaluating import survey
from paredown.spaces.candidates import draft

STATISTICS: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "least of each session": lambda ours, base: ours.min(1).mean() / base.min(1).mean(),
    "median of each session": lambda ours, base: (
        np.median(ours, 1).mean() / np.median(base, 1).mean()
    ),
    "median of block ratios": lambda ours, base: np.median(ours / base, 1).mean(),
}
"""Ratios from the blocks (sessions, blocks) of a candidate and of the uncompressed model."""


def main() -> int:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", nargs="?", default="examples/digits.yaml")
    parser.add_argument("--networks", type=int, default=6)
    parser.add_argument("--times", type=int, default=6)
    arguments = parser.parse_args()
    surveyed = survey(load_config(arguments.config))
    space, threads = surveyed.space, surveyed.config.hardware.threads
    candidates = sample_candidates(space, arguments.networks + 2)[2:]
    works = [read_work(draft(space.model_map(c), c)) for c in candidates]
    models = [file for work in works if why_not_timed(file := export(work)) is None]
    reference = export(reference_work(space))
    started = time.perf_counter()
    found = [
        [time_interleaved((model, reference), threads, SESSIONS, BLOCKS) for model in models]
        for _ in range(arguments.times)
    ]
    base_s = np.array([[np.median(blocks[1]) for blocks in row] for row in found])
    print(
        f"{len(models)} candidates, {arguments.times} times, {SESSIONS} sessions of {BLOCKS} blocks, "
        f"in {time.perf_counter() - started:.0f} s; the uncompressed model took "
        f"{1e6 * base_s.min():.1f} to {1e6 * base_s.max():.1f} us"
    )
    for name, ratio in STATISTICS.items():
        ratios = np.array([[ratio(*blocks) for blocks in row] for row in found])
        print(f"{name:24} {(ratios.std(axis=0) / ratios.mean(axis=0)).mean():6.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
