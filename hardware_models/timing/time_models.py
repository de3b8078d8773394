"""Times ONNX models on the machine it runs on; needs only Python, numpy and onnxruntime.

    python time_models.py [FOLDER] [--threads N] [--instances N] [--blocks N]

This file works alone: copied beside the models of `paredown calibrate CONFIG --write FOLDER`, it
reads manifest.json and writes timings.csv, which `--read FOLDER` takes back.

A session's latency is the median over many short blocks. Other work on a machine adds time, but a
processor's clock rises for moments too, so the least of many blocks is a matter of luck. Sessions of
one model differ by several per cent through their memory layout, so each model gets several. All
are timed interleaved: a slow second hits every one alike.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

# Read as it is imported: without it ONNX Runtime reports what it runs to its makers.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime

BLOCK_S = 1e-3
COLUMNS = ("file", "instance", "seconds", "machine")
_WARM_RUNS = 2
_SEED = 0
_AT_ONCE = 60
"""Models whose sessions are open at once: what a small board has memory for."""
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


class MeasureError(ValueError):
    """A model cannot be timed. No `ParedownError`: this file is copied to machines without paredown."""


class Runner:
    """One session with its inputs and outputs bound.

    Inputs are made up from their types and shapes (normal floats, zeros for integers); symbolic
    dimensions are 1.

    Raises:
        MeasureError: The model does not load, or an input has a type that cannot be made up.
    """

    def __init__(self, model: bytes | Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        source = str(model) if isinstance(model, Path) else model
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
            array = _made_up(
                value.name, value.type, usual_shape(self.session, value.shape), random
            )
            self.binding.bind_ortvalue_input(
                value.name, onnxruntime.OrtValue.ortvalue_from_numpy(array)
            )
        for value in self.session.get_outputs():
            self.binding.bind_output(value.name)
        self.runs = 1

    def warm(self) -> None:
        """Two runs that do not count, and how many runs a block takes.

        Raises:
            MeasureError: The model loads, but does not run.
        """
        try:
            self._time(_WARM_RUNS)
        except Exception as error:  # as in loading
            raise MeasureError(f"the ONNX model does not run: {error}") from error
        self.runs = max(1, round(BLOCK_S / self._time(1)))

    def block_s(self) -> float:
        """Seconds per run in one block of about a millisecond.

        Behind as many runs that do not count: the model timed before leaves caches of its own, and on
        processors that lower their clock for wide registers its clock (8-bit networks behind float ones
        began 15 % slow on a Xeon and took 40 runs, a millisecond, to come to their speed).
        """
        self._time(self.runs)
        return self._time(self.runs)

    def _time(self, runs: int) -> float:
        run, binding = self.session.run_with_iobinding, self.binding
        start = time.perf_counter()
        for _ in range(runs):
            run(binding)
        return (time.perf_counter() - start) / runs


def usual_shape(
    session: onnxruntime.InferenceSession, shape: Sequence[int | str | None]
) -> tuple[int, ...]:
    """The shape with the sizes that the file names for its free axes; 1 where it names none."""
    sizes = session.get_modelmeta().custom_metadata_map
    return tuple(size if isinstance(size, int) else int(sizes.get(str(size), 1)) for size in shape)


def why_not_timed(model: bytes | Path) -> str | None:
    """What the runtime has against a model; None where it loads and runs."""
    try:
        Runner(model, 1).warm()
    except MeasureError as error:
        return str(error)
    return None


def time_interleaved(
    models: Sequence[bytes | Path], threads: int, instances: int, blocks: int
) -> np.ndarray:
    """Seconds per run (models, instances, blocks), each model in `instances` fresh sessions."""
    runners = warm_runners(models, threads, instances)
    return time_blocks(runners, blocks).reshape(len(models), instances, blocks)


def warm_runners(models: Sequence[bytes | Path], threads: int, instances: int) -> list[Runner]:
    """`instances` fresh sessions of every model, in the models' order, ready to be timed."""
    runners = [Runner(model, threads) for model in models for _ in range(instances)]
    for runner in runners:
        runner.warm()
    return runners


def time_blocks(runners: Sequence[Runner], blocks: int) -> np.ndarray:
    """Seconds per run (runners, blocks), timed in turns."""
    found = np.empty((len(runners), blocks))
    for block in range(blocks):
        order = range(len(runners))
        # Every other pass runs backwards: no model is always timed after the same neighbour.
        for index in order if block % 2 == 0 else reversed(order):
            found[index, block] = runners[index].block_s()
    return found


def machine(threads: int) -> str:
    """CPU model, ONNX Runtime version and threads: what a measured latency holds for."""
    return f"{cpu_model()}, onnxruntime {onnxruntime.__version__}, {threads} threads"


def cpu_model() -> str:
    """The processor's name as the system reports it."""
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def main() -> int:
    """Times every model of a folder's manifest and writes timings.csv beside it."""
    parser = argparse.ArgumentParser(description="Times the ONNX models of a calibration.")
    parser.add_argument("folder", nargs="?", default=str(Path(__file__).parent))
    parser.add_argument("--threads", type=int, help="by default as the manifest says")
    parser.add_argument("--instances", type=int, default=2, help="sessions of each model")
    parser.add_argument("--blocks", type=int, default=20, help="blocks of 1 ms for each session")
    arguments = parser.parse_args()
    folder = Path(arguments.folder)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    threads = arguments.threads or int(manifest["threads"])
    names = [network["file"] for network in manifest["networks"]]
    with (folder / "timings.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for start in range(0, len(names), _AT_ONCE):
            some = names[start : start + _AT_ONCE]
            paths = [folder / name for name in some]
            found = time_interleaved(paths, threads, arguments.instances, arguments.blocks)
            for name, times_s in zip(some, np.median(found, axis=2), strict=True):
                for instance, seconds in enumerate(times_s):
                    rows.writerow((name, instance, f"{seconds:.9g}", machine(threads)))
            print(f"{start + len(some)} of {len(names)} models timed", flush=True)
    return 0


def _made_up(
    name: str, kind: str, shape: Sequence[int], random: np.random.Generator
) -> np.ndarray:
    if kind not in _NUMPY_TYPES:
        raise MeasureError(
            f"input {name!r} must be one of {', '.join(_NUMPY_TYPES)} to be timed, got {kind}; "
            "export the model with a plain tensor there"
        )
    dtype = _NUMPY_TYPES[kind]
    if np.issubdtype(dtype, np.floating):
        return random.standard_normal(shape).astype(dtype)
    return np.zeros(shape, dtype=dtype)


if __name__ == "__main__":
    sys.exit(main())
