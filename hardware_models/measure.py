"""Measured latency of ONNX models on this machine's CPU.

Noise on shared machines only ever adds time, so a session's latency is its minimum over many short
blocks; sessions of one model differ by several per cent through their memory layout, so a model's
latency is the mean over fresh sessions. All models are measured interleaved: a slow second hits
every one alike.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from paredown.hardware_models.time_models import MeasureError as MeasureError
from paredown.hardware_models.time_models import machine as _machine
from paredown.hardware_models.time_models import time_interleaved
from paredown.hardware_models.whole_file import write_text_whole

Model = bytes | Path


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Latency of one model: mean, least and greatest of its sessions' minima."""

    mean_s: float
    min_s: float
    max_s: float
    instances: int


@dataclass(frozen=True, kw_only=True)
class MeasuredRatio:
    """Latency of a candidate over that of a baseline measured in the same blocks.

    Below 1 the candidate is faster. `low` and `high` take the sessions that favour it least and
    most.
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
    blocks: int = 20,
    calm_s: float = math.inf,
    patience_s: float = 0.0,
) -> MeasuredRatio:
    """Latency of `candidate` over `baseline`, interleaved on this machine.

    What else a machine does slows networks by different factors (small ones by 1.8 where large
    ones take 1.5 times as long, seen on a shared virtual machine), so a ratio holds for a calm
    machine: blocks go on for `patience_s` until the baseline takes `calm_s` at most.
    """

    def is_calm(found: list[list[float]]) -> bool:
        return float(np.mean(found[1])) <= calm_s

    pair = (candidate, baseline)
    found = time_interleaved(pair, threads, instances, blocks, is_calm, patience_s)
    ours, theirs = (_summary(times_s) for times_s in found)
    return MeasuredRatio(
        ratio=ours.mean_s / theirs.mean_s,
        low=ours.min_s / theirs.max_s,
        high=ours.max_s / theirs.min_s,
        candidate=ours,
        baseline=theirs,
    )


@functools.cache
def fingerprint(threads: int) -> str:
    """CPU model, ONNX Runtime version and threads: what a measured latency holds for."""
    return _machine(threads)


@dataclass(frozen=True)
class LatencyMeter:
    """Measures models on this machine and remembers them by content.

    `folder` holds one JSON file per model and machine. Times of different calls compare roughly
    only (the machine changes by several per cent within an hour): ratios come from
    `measure_ratio`.
    """

    folder: Path
    threads: int = 1

    def measure(self, models: Sequence[bytes]) -> tuple[Measured, ...]:
        """Latencies in the models' order; those not remembered are measured together,
        interleaved."""
        paths = [self._path(model) for model in models]
        missing = {
            path: model for path, model in zip(paths, models, strict=True) if not path.exists()
        }
        if missing:
            found = measure_latencies(tuple(missing.values()), threads=self.threads)
            for path, measured in zip(missing, found, strict=True):
                write_text_whole(path, json.dumps(asdict(measured)))
        return tuple(Measured(**json.loads(path.read_text(encoding="utf-8"))) for path in paths)

    def _path(self, model: bytes) -> Path:
        digest = hashlib.blake2b(model, digest_size=16)
        digest.update(fingerprint(self.threads).encode())
        return self.folder / f"{digest.hexdigest()}.json"


def _summary(times_s: Sequence[float]) -> Measured:
    return Measured(
        mean_s=float(np.mean(times_s)),
        min_s=min(times_s),
        max_s=max(times_s),
        instances=len(times_s),
    )
