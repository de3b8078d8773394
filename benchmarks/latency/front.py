"""The front drawn by predicted latencies against the one drawn by measured ones, from a finished run.

    PAREDOWN_DATA=... python benchmarks/latency/front.py RUN [--timed N]

Takes the evaluations of the run's first rung within its bounds and the N (150) of least
non-domination rank by predicted latency, and times those on this machine, interleaved. One front is
drawn by the predicted latencies of all, one by the measured ones of the N. The members of both are then
timed once more, in sessions of their own: a front that was picked for its lucky timings gains nothing.
Prints both hypervolumes under the second timing; exit code 1 if they differ by more than 5 %.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from paredown.hardware_models.timing import fingerprint, measure_latencies
from paredown.hardware_models.work import read_work
from paredown.search.calibrating import export
from paredown.search.config import load_config
from paredown.search.evaluating import survey
from paredown.search.study import (
    CONFIG,
    Evaluation,
    Front,
    Rung,
    front_of,
    hypervolume,
    is_within_bounds,
    non_dominated_rank,
    read_run,
    reference_point,
)
from paredown.spaces.candidates import draft
from paredown.spaces.knobs import Space

LATENCY = "latency_s"
LARGEST_DIFFERENCE = 0.05


def timed(
    evaluations: Sequence[Evaluation], space: Space, threads: int, instances: int
) -> list[Evaluation]:
    """The evaluations with latencies measured in one interleaved run, in fresh sessions."""
    models = [
        export(read_work(draft(space.model_map(e.candidate), e.candidate))) for e in evaluations
    ]
    found = measure_latencies(models, threads=threads, instances=instances, blocks=30)
    return [
        replace(e, metrics={**e.metrics, LATENCY: measured.mean_s})
        for e, measured in zip(evaluations, found, strict=True)
    ]


def main() -> int:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--timed", type=int, default=150)
    arguments = parser.parse_args()
    record = read_run(arguments.run)
    goals = record.goals
    if LATENCY not in {goal.metric for goal in goals}:
        parser.error(f"the run must have the goal {LATENCY}; give another run")
    config = load_config(arguments.run / CONFIG)
    space, threads = survey(config).space, config.hardware.threads
    first = {e.key: e for e in record.evaluations if e.rung.number == 0 and not e.is_failed}
    pool = [e for e in first.values() if is_within_bounds(e, goals)]
    values = np.array([[e.metrics[goal.metric] for goal in goals] for e in pool])
    rank = non_dominated_rank(values, [goal.direction for goal in goals])
    uncompressed = record.uncompressed
    assert uncompressed is not None
    near = [pool[i] for i in np.argsort(rank, kind="stable")[: arguments.timed]]
    measured = timed(near, space, threads, instances=3)
    fronts = {
        "predicted": front_of(pool, goals).keys,
        "measured": front_of(measured, goals).keys,
    }
    finalists = [e for e in pool if any(e.key in keys for keys in fronts.values())]
    again = timed([first.get(uncompressed.key, uncompressed), *finalists], space, threads, 5)
    reference = reference_point(goals, again[0], again[0])
    print(fingerprint(threads))
    print(f"{len(pool)} evaluations within bounds, {len(near)} timed, {len(finalists)} again")
    volumes = {}
    for name, keys in fronts.items():
        members = tuple(e for e in again[1:] if e.key in keys)
        volumes[name] = hypervolume(Front(goals, Rung(), members), reference)
        print(f"front by {name} latency: {len(members)} models, hypervolume {volumes[name]:.4f}")
    ratio = volumes["predicted"] / volumes["measured"]
    print(f"predicted over measured: {ratio:.3f}")
    return int(abs(ratio - 1) > LARGEST_DIFFERENCE)


if __name__ == "__main__":
    sys.exit(main())
