"""Seconds of a recurrent layer's steps, which one operator takes one after the other."""

from __future__ import annotations

from paredown.hardware_models.devices.device import Device
from paredown.hardware_models.work.workload import OperatorWork

_STEP = {"": (0.2, 0.8, 1), "int8_": (0.4, 0.9, 3)}
"""A step of a recurrent layer in floats and codes, as shares of what the device file says: of a kernel's
call, since it is no call of its own; of the weights' traffic, since the next step's are fetched ahead; of
the outputs, since codes are summed up as integers first and the state is rounded. Measured by
`benchmarks/operators/recurrent.py` on an EPYC with VNNI, ONNX Runtime 1.31, one thread."""
_CALLS = 2
"""Calls that an operator takes as long as beside its steps, for buffers of gates and states. Measured on
120 networks of the family "recurrent", on the same machine."""


def add_steps(
    parts: dict[str, float], op: OperatorWork, device: Device, bytes_per_s: float
) -> None:
    """Adds the parts of all steps, one after the other on one thread: each reads all weights again."""
    bits, prefix = (8, "int8_") if op.integer else (32, "")
    rates = device.int8 if op.integer else device.float32
    of_call, of_traffic, of_outputs = _STEP[prefix]
    computing_s = op.macs / rates.linear_macs_per_s.value
    traffic_s = of_traffic * op.out_spatial * op.weight_count * bits / 8 / bytes_per_s
    if computing_s >= traffic_s:
        parts[prefix + "step_macs"] += computing_s
    else:
        parts[prefix + "step_traffic"] += traffic_s
    parts["recurrent_calls"] += _CALLS * device.overheads.other_s.value
    parts["steps"] += of_call * op.out_spatial * device.overheads.other_s.value
    parts["step_outputs"] += of_outputs * op.output_elements * device.elements.activation_s.value
