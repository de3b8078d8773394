"""Measured latency of ONNX models on this machine's CPU.

A session's latency is its median over many short blocks: the least of them may be a moment in which the
clock was raised, and repeated worse than the median (docs/cost_models.md). Sessions of one model differ
by several per cent through their memory layout, so a model's latency is the mean over fresh sessions.
All models are measured interleaved: a slow second hits every one alike.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from paredown.hardware_models.timing.time_models import MeasureError as MeasureError
from paredown.hardware_models.timing.time_models import machine as _machine
from paredown.hardware_models.timing.time_models import time_blocks, time_interleaved, warm_runners

Model = bytes | Path

_ROUNDS = 5


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Latency of one model: mean, least and greatest of its sessions' medians."""

    mean_s: float
    min_s: float
    max_s: float
    instances: int


@dataclass(frozen=True, kw_only=True)
class MeasuredRatio:
    """Latency of a candidate over that of a baseline timed in turns.

    Below 1 the candidate is faster. `ratio` is the mean over pairs of sessions, one of each model,
    `low` and `high` the pairs that favour the candidate most and least.
    """

    ratio: float
    low: float
    high: float
    candidate: Measured
    baseline: Measured


def measure_latencies(
    models: Sequence[Model], *, threads: int = 1, instances: int = 3, blocks: int = 20
) -> tuple[Measured, ...]:
    """Latencies of all models on `threads` threads of this machine, in their order.

    Args:
        models: ONNX models as bytes or files; inputs are made up from their types and shapes
        (normal
            floats, zeros for integers), symbolic dimensions are 1.
        instances: Fresh sessions per model.
        blocks: Blocks of about 1 ms per session, interleaved over all sessions.

    Raises:
        MeasureError: A model does not load, or an input has a type that cannot be made up.
    """
    found = time_interleaved(models, threads, instances, blocks)
    return tuple(_summary(times_s) for times_s in found)


def measure_ratio(
    candidate: Model,
    baseline: Model,
    *,
    threads: int = 1,
    instances: int = 3,
    blocks: int = 100,
    settled: float = 0.0,
) -> MeasuredRatio:
    """Latency of `candidate` over `baseline`, timed in turns on this machine.

    A pair is compared block by block, within milliseconds of each other: what slows or speeds the
    machine for longer cancels.

    Args:
        blocks: At most so many.
        settled: Fewer blocks do, a fifth at least, once their scatter moves the ratio by no more
            than this share of it (standard error).
    """
    runners = warm_runners((candidate, baseline), threads, instances)
    timed_s = np.empty((2 * instances, 0))
    while timed_s.shape[1] < blocks:
        more = min(math.ceil(blocks / _ROUNDS), blocks - timed_s.shape[1])
        timed_s = np.concatenate([timed_s, time_blocks(runners, more)], axis=1)
        ours, theirs = timed_s.reshape(2, instances, -1)
        if _relative_error(ours / theirs) <= settled:
            break
    pairs = np.median(ours / theirs, axis=1)
    return MeasuredRatio(
        ratio=float(pairs.mean()),
        low=float(pairs.min()),
        high=float(pairs.max()),
        candidate=_summary(ours),
        baseline=_summary(theirs),
    )


def _relative_error(ratios: NDArray[np.float64]) -> float:
    """Standard error of the mean of medians (instances, blocks), over that mean.

    That of a median of n normal values is 1.2533 of their deviation over the root of n, and their
    deviation the quartiles' distance over 1.349, which outliers do not move.
    """
    instances, blocks = ratios.shape
    low, high = np.quantile(ratios, (0.25, 0.75), axis=1)
    errors = 1.2533 * (high - low) / 1.349 / math.sqrt(blocks)
    mean = np.median(ratios, axis=1).mean()
    return float(np.sqrt(np.square(errors).sum()) / instances / mean)


@functools.cache
def fingerprint(threads: int) -> str:
    """CPU model, ONNX Runtime version and threads: what a measured latency holds for."""
    return _machine(threads)


def _summary(block_s: NDArray[np.float64]) -> Measured:
    """Of one model's blocks (instances, blocks)."""
    sessions_s = np.median(block_s, axis=1)
    return Measured(
        mean_s=float(sessions_s.mean()),
        min_s=float(sessions_s.min()),
        max_s=float(sessions_s.max()),
        instances=len(sessions_s),
    )
