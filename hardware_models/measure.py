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
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

BLOCK_S = 1e-3
_WARM_RUNS = 2
_SEED = 0
_NUMPY_TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(bool)": np.bool_,
}

Model = bytes | Path


class MeasureError(ValueError):
    """A model cannot be timed."""


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
    runners = [[_Runner(model, threads) for _ in range(instances)] for model in models]
    flat = [runner for group in runners for runner in group]
    for runner in flat:
        runner.warm()
    for block in range(blocks):
        # Every other pass runs backwards, so no model is always measured after the same neighbour.
        for runner in flat if block % 2 == 0 else reversed(flat):
            runner.block()
    return tuple(_summary([runner.best_s for runner in group]) for group in runners)


def measure_ratio(
    candidate: Model,
    baseline: Model,
    *,
    threads: int = 1,
    instances: int = 3,
    blocks: int = 20,
) -> MeasuredRatio:
    """Latency of `candidate` over `baseline`, interleaved on this machine."""
    ours, theirs = measure_latencies(
        (candidate, baseline), threads=threads, instances=instances, blocks=blocks
    )
    return MeasuredRatio(
        ratio=ours.mean_s / theirs.mean_s,
        low=ours.min_s / theirs.max_s,
        high=ours.max_s / theirs.min_s,
        candidate=ours,
        baseline=theirs,
    )


def fingerprint(threads: int) -> str:
    """CPU model, ONNX Runtime version and threads: what a measured latency holds for."""
    return f"{_cpu_model()}, onnxruntime {onnxruntime.__version__}, {threads} threads"


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
            self.folder.mkdir(parents=True, exist_ok=True)
            found = measure_latencies(tuple(missing.values()), threads=self.threads)
            for path, measured in zip(missing, found, strict=True):
                path.write_text(json.dumps(asdict(measured)), encoding="utf-8")
        return tuple(Measured(**json.loads(path.read_text(encoding="utf-8"))) for path in paths)

    def _path(self, model: bytes) -> Path:
        digest = hashlib.blake2b(model, digest_size=16)
        digest.update(fingerprint(self.threads).encode())
        return self.folder / f"{digest.hexdigest()}.json"


class _Runner:
    """One session with its inputs and outputs bound, and the least time per run seen so far."""

    def __init__(self, model: Model, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        source: Any = str(model) if isinstance(model, Path) else model
        try:
            self.session = onnxruntime.InferenceSession(
                source, options, providers=["CPUExecutionProvider"]
            )
        except (
            Exception
        ) as error:  # onnxruntime raises a dozen types for one fact: it does not load
            raise MeasureError(f"the ONNX model does not load: {error}") from error
        self.binding = self.session.io_binding()
        random = np.random.default_rng(_SEED)
        for value in self.session.get_inputs():
            array = _made_up(value.name, value.type, value.shape, random)
            self.binding.bind_ortvalue_input(
                value.name, onnxruntime.OrtValue.ortvalue_from_numpy(array)
            )
        for value in self.session.get_outputs():
            self.binding.bind_output(value.name)
        self.runs = 1
        self.best_s = float("inf")

    def warm(self) -> None:
        self._time(_WARM_RUNS)
        self.runs = max(1, round(BLOCK_S / self._time(1)))

    def block(self) -> None:
        self.best_s = min(self.best_s, self._time(self.runs))

    def _time(self, runs: int) -> float:
        run, binding = self.session.run_with_iobinding, self.binding
        start = time.perf_counter()
        for _ in range(runs):
            run(binding)
        return (time.perf_counter() - start) / runs


def _made_up(
    name: str, kind: str, shape: Sequence[Any], random: np.random.Generator
) -> np.ndarray[Any, Any]:
    if kind not in _NUMPY_TYPES:
        raise MeasureError(
            f"input {name!r} must be one of {', '.join(_NUMPY_TYPES)} to be timed, got {kind}; "
            "export the model with a plain tensor there"
        )
    sizes = [size if isinstance(size, int) else 1 for size in shape]
    dtype = _NUMPY_TYPES[kind]
    if np.issubdtype(dtype, np.floating):
        return random.standard_normal(sizes).astype(dtype)
    return np.zeros(sizes, dtype=dtype)


def _summary(times_s: Sequence[float]) -> Measured:
    return Measured(
        mean_s=float(np.mean(times_s)),
        min_s=min(times_s),
        max_s=max(times_s),
        instances=len(times_s),
    )


@functools.cache
def _cpu_model() -> str:
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
