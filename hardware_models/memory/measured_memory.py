"""Peak memory of an ONNX model as ONNX Runtime's own allocation counters show it.

Its profiler writes the bytes in use after every kernel. They hold initialisers that were prepacked
as well, so what was in use before the first kernel is taken off.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from paredown.hardware_models.timing.time_models import usual_shape
from paredown.spaces.system.errors import ParedownError

_TYPES = {
    "tensor(float)": np.float32,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}
_COUNTER = "mem_bytes_requested_in_use"


class CounterError(ParedownError):
    """The runtime's profile holds no memory counters."""


@dataclass(frozen=True, kw_only=True)
class MeasuredMemory:
    """Bytes of one run.

    `peak_bytes` are activations at the end of the fullest kernel, the caller's inputs included;
    `workspace_bytes` is what some kernel took and gave back beyond all that was seen at kernels'
    ends, session start included. `prepacked_bytes` are weights in the runtime's own layout.
    """

    peak_bytes: int
    workspace_bytes: int
    prepacked_bytes: int


def measure_memory(model: Path | bytes) -> MeasuredMemory:
    """Runs the model once on zeros and one thread, each buffer allocated by itself.

    Args:
        model: An ONNX file or its bytes, with fixed shapes.

    Raises:
        CounterError: The runtime's version writes no memory counters.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # A memory pattern is one allocation planned after the first run; single buffers would be hidden.
    options.enable_mem_pattern = False
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        source = model if isinstance(model, bytes) else str(model)
        session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        inputs: dict[str, np.ndarray] = {
            i.name: np.zeros(usual_shape(session, i.shape), _TYPES[i.type])
            for i in session.get_inputs()
        }
        session.run(None, inputs)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    kernels = [event["args"] for event in events if _COUNTER in event.get("args", {})]
    if not kernels:
        raise CounterError(
            f"onnxruntime {ort.__version__} writes no {_COUNTER!r} in its profile; use 1.31"
        )
    return _read(kernels, sum(array.nbytes for array in inputs.values()))


def _read(kernels: list[dict[str, str]], input_bytes: int) -> MeasuredMemory:
    first = kernels[0]
    before = int(first[_COUNTER]) - int(first["mem_requested_in_use_delta"])
    highest = max(int(kernel["mem_bytes_in_use"]) for kernel in kernels)
    return MeasuredMemory(
        peak_bytes=input_bytes + max(int(kernel[_COUNTER]) for kernel in kernels) - before,
        workspace_bytes=int(kernels[-1]["mem_in_use_peak"]) - highest,
        prepacked_bytes=before,
    )
