"""The parts of a network's latency, each in the seconds that a device's preset gives it.

A padded-channel roofline, taken apart: how long convolutions on integer kernels take, how long
layout changes do, and so on. The preset's latency is the sum of the parts; a calibrated latency is
the same sum with one factor per part, fitted to measurements. So the models share these features
and stay linear.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping

from paredown.hardware_models.device import Compute, Device
from paredown.hardware_models.workload import CONTAINER_BITS, OperatorWork, Work

PARTS = (
    "run",
    "calls",
    "conv_calls",
    "int8_conv_calls",
    "conv_macs",
    "int8_conv_macs",
    "misaligned_macs",
    "im2col",
    "int8_im2col",
    "depthwise_macs",
    "int8_depthwise_macs",
    "linear_macs",
    "int8_linear_macs",
    "weight_traffic",
    "activation_traffic",
    "add",
    "int8_add",
    "elementwise",
    "quantize_calls",
    "quantize_elements",
    "reorder_calls",
    "reorder_elements",
    "int8_weights",
    "int4_weights",
)
"""Names of the parts, in the order of every feature vector."""

_CONVOLUTIONS = frozenset({"conv", "depthwise_conv", "conv_transpose"})
_PRODUCTS = _CONVOLUTIONS | {"linear", "matmul", "attention"}
# Operators that keep the blocked layout of the float convolutions around them.
_KEEPS_LAYOUT = frozenset({"add", "mul", "activation", "pool", "concat", "resize"})


def latency_parts_s(work: Work, device: Device, threads: int = 1) -> Mapping[str, float]:
    """Seconds of every part in `PARTS` on `threads` threads: one run, and all operators."""
    total = dict.fromkeys(PARTS, 0.0)
    total["run"] = device.overheads.run_s.value
    for parts in operator_parts_s(work, device, threads):
        for name, seconds in parts.items():
            total[name] += seconds
    return total


def operator_parts_s(
    work: Work, device: Device, threads: int = 1, level: int | None = None
) -> list[Mapping[str, float]]:
    """Seconds of every operator by part; parts an operator has nothing of are left out.

    Ceiling model of Williams et al. 2009, doi:10.1145/1498765.1498785, on padded channels: a
    product counts either as computing or as moving its data, whichever is slower. Weights are read
    from the level of memory that holds all of them, because every inference walks them all.

    Args:
        level: Index of that level of memory; None finds it from the work's own weights.
    """
    speed = 1 + (threads - 1) * device.runtime.thread_efficiency.value
    if level is None:
        level = memory_level(work.resident_weight_bytes, device)
    bytes_per_s = device.memory.levels[level].bytes_per_s.value
    blocked: set[str] = set()
    found: list[Mapping[str, float]] = []
    for op in work.operators:
        parts: dict[str, float] = defaultdict(float)
        found.append(parts)
        _add_layout(parts, op, device, blocked)
        if op.kind in ("quantize", "dequantize"):
            parts["quantize_calls"] += device.edges.quantize_s.value
            parts["quantize_elements"] += (
                op.output_elements * device.edges.quantize_element_s.value
            )
        elif op.kind in _PRODUCTS:
            _add_call(parts, op, device)
            _add_product(parts, op, device, speed, bytes_per_s)
        elif not op.fused and op.kind != "reshape":
            _add_elementwise(parts, op, device, speed)
    return found


def memory_level(resident_bytes: int, device: Device) -> int:
    """Index of the fastest level of memory that holds so many bytes; else the last."""
    for index, level in enumerate(device.memory.levels):
        if level.size_bytes is None or resident_bytes <= level.size_bytes:
            return index
    return len(device.memory.levels) - 1


def _add_call(parts: dict[str, float], op: OperatorWork, device: Device) -> None:
    overheads = device.overheads
    if op.kind == "depthwise_conv":
        seconds = overheads.int8_depthwise_s if op.integer else overheads.float_depthwise_s
    elif op.kind in _CONVOLUTIONS and math.prod(op.kernel_size) == 1:
        seconds = overheads.int8_pointwise_s if op.integer else overheads.float_pointwise_s
    elif op.kind in _CONVOLUTIONS:
        seconds = overheads.int8_conv_s if op.integer else overheads.float_conv_s
    else:
        parts["calls"] += overheads.other_s.value
        return
    parts["int8_conv_calls" if op.integer else "conv_calls"] += seconds.value


def _add_product(
    parts: dict[str, float], op: OperatorWork, device: Device, speed: float, bytes_per_s: float
) -> None:
    """The computing of one product, or its traffic where that is slower."""
    _add_weight_dequantize(parts, op, device, speed)
    computing = _computing_s(op, device)
    bits = 8 if op.integer else 32
    weight_bits = CONTAINER_BITS[op.onnx_type] if op.kind == "linear" else bits
    weights_s = op.weight_count * weight_bits / 8 / bytes_per_s
    activations_s = (op.input_elements + op.output_elements) * bits / 8 / bytes_per_s
    if sum(computing.values()) / speed >= weights_s + activations_s:
        for part, seconds in computing.items():
            parts[part] += seconds / speed
    else:
        parts["weight_traffic"] += weights_s
        parts["activation_traffic"] += activations_s


def _add_weight_dequantize(
    parts: dict[str, float], op: OperatorWork, device: Device, speed: float
) -> None:
    # Linear layers have kernels that read narrow weights (MatMulNBits), about as fast as float
    # ones.
    if op.integer or op.onnx_type == "float32" or op.kind == "linear":
        return
    is_byte = op.onnx_type == "int8"
    edges = device.edges
    element_s = edges.int8_weight_element_s if is_byte else edges.int4_weight_element_s
    parts["int8_weights" if is_byte else "int4_weights"] += (
        op.weight_count * element_s.value / speed
    )


def _computing_s(op: OperatorWork, device: Device) -> Mapping[str, float]:
    rates = device.int8 if op.integer else device.float32
    prefix = "int8_" if op.integer else ""
    if op.kind == "depthwise_conv":
        block = device.alignment.float_block
        padded = op.macs / op.out_channels * _ceil(op.out_channels, block)
        return {prefix + "depthwise_macs": padded / rates.depthwise_macs_per_s.value}
    if op.kind not in _CONVOLUTIONS:
        return {prefix + "linear_macs": op.macs / rates.linear_macs_per_s.value}
    if _is_aligned(op, device):
        seconds = {prefix + "conv_macs": padded_macs(op, device) / rates.conv_macs_per_s.value}
        return {**seconds, **_im2col(op, rates)} if op.integer else seconds
    macs_s = op.macs / rates.misaligned_macs_per_s.value
    return {"misaligned_macs": macs_s, **_im2col(op, rates)}


def _im2col(op: OperatorWork, rates: Compute) -> Mapping[str, float]:
    if math.prod(op.kernel_size) == 1:
        return {}
    columns = op.batch * op.out_spatial * op.in_channels * math.prod(op.kernel_size)
    part = "int8_im2col" if op.integer else "im2col"
    return {part: columns / rates.im2col_elements_per_s.value}


def padded_macs(op: OperatorWork, device: Device) -> float:
    """MACs of a convolution as the device's kernel runs them, with channels padded to its
    blocks."""
    alignment = device.alignment
    into, out = op.in_channels // op.groups, op.out_channels // op.groups
    in_block = alignment.int8_in_block if op.integer else alignment.float_block
    out_block = alignment.int8_out_block if op.integer else alignment.float_block
    # A first layer has fewer channels than a block and a kernel of its own that does not pad them.
    padded_in = into if into < in_block else _ceil(into, in_block)
    return op.macs / (into * out) * padded_in * _ceil(out, out_block)


def _is_aligned(op: OperatorWork, device: Device) -> bool:
    """Whether the kernel with the fast layout can run the convolution.

    ONNX Runtime's blocked float kernels need weights that are constants: a dequantised one is not.
    """
    if op.kind == "conv_transpose":
        return False
    if not op.integer and op.onnx_type != "float32":
        return False
    multiple = device.alignment.multiple
    into = op.in_channels // op.groups
    narrow = into < device.alignment.float_block and op.groups == 1
    return op.out_channels % multiple == 0 and (narrow or into % multiple == 0)


def _add_elementwise(
    parts: dict[str, float], op: OperatorWork, device: Device, speed: float
) -> None:
    elements = device.elements
    element_s = {
        "add": elements.add_s,
        "mul": elements.add_s,
        "activation": elements.activation_s,
        "norm": elements.norm_s,
        "softmax": elements.softmax_s,
        "pool": elements.pool_s,
    }.get(op.kind, elements.move_s)
    counted = op.input_elements if op.kind == "pool" else op.output_elements
    is_addition = op.kind in ("add", "mul")
    part = ("int8_add" if op.integer else "add") if is_addition else "elementwise"
    parts[part] += counted * element_s.value / speed
    parts["calls"] += device.overheads.other_s.value


def blocked_operators(work: Work, device: Device) -> frozenset[str]:
    """Names of the operators whose results lie in the blocked layout of float convolutions."""
    blocked: set[str] = set()
    for op in work.operators:
        _layout_changes(op, device, blocked)
    return frozenset(blocked)


def _add_layout(
    parts: dict[str, float], op: OperatorWork, device: Device, blocked: set[str]
) -> None:
    """Reorders between the plain layout and the blocked one of float convolutions."""
    if _layout_changes(op, device, blocked):
        parts["reorder_calls"] += device.edges.reorder_s.value
        parts["reorder_elements"] += op.input_elements * device.edges.reorder_element_s.value


def _layout_changes(op: OperatorWork, device: Device, blocked: set[str]) -> bool:
    """Whether inputs of `op` are reordered; a blocked result joins `blocked`."""
    sources = any(name in blocked for name in op.sources)
    is_blocked = (
        op.kind in ("conv", "depthwise_conv") and not op.integer and _is_aligned(op, device)
    )
    keeps = op.kind in _KEEPS_LAYOUT and sources
    if is_blocked or keeps:
        blocked.add(op.name)
    enters = is_blocked and not sources and op.in_channels >= device.alignment.float_block
    leaves = sources and not (is_blocked or keeps)
    return enters or leaves


def _ceil(count: int, block: int) -> int:
    return -(-count // block) * block
