"""How channels are padded, and where values lie in the blocked layout of float convolutions."""

from __future__ import annotations

from paredown.hardware_models.device import Device
from paredown.hardware_models.workload import CONTAINER_BITS, OperatorWork, Work
from paredown.spaces.quantized_values import reads_narrow_weights

FOLDS_CONSTANTS = "onnxruntime"
"""The runtime that computes with constants once, when a model is loaded."""
# Operators that keep the blocked layout of the float convolutions around them.
_KEEPS_LAYOUT = frozenset({"add", "mul", "activation", "pool", "concat", "resize"})


def is_dequantised(op: OperatorWork, device: Device) -> bool:
    """Whether narrow weights are widened on every run.

    ONNX Runtime does it once, when the model is loaded, but for transposed convolutions between codes:
    they have no integer kernel, and yet weights there are read through a DequantizeLinear, which is
    never folded. Other runtimes widen whatever they have no kernel for.
    """
    if op.onnx_type == "float32":
        return False
    if device.runtime.name == FOLDS_CONSTANTS:
        return op.kind == "conv_transpose" and op.activation_bits == 8
    if op.integer:
        bits = CONTAINER_BITS[op.onnx_type]
        return bits < 8 and not any(
            kernel.activation_bits == 8
            and bits in kernel.weight_bits
            and op.kind in kernel.operators
            for kernel in device.kernels
        )
    return op.kind != "linear" or op.activation_bits == 8


def held_bits(op: OperatorWork, device: Device) -> int:
    """Bits of each weight as the kernel reads it from memory."""
    stored = CONTAINER_BITS[op.onnx_type]
    if device.runtime.name != FOLDS_CONSTANTS or stored == 32:
        return stored
    if op.integer:
        return 8
    rows = op.output_elements // max(1, op.out_channels)
    torn = op.onnx_type == "int2" and op.out_channels % 4 != 0
    is_read = op.kind == "linear" and not torn and reads_narrow_weights(rows, op.weight_count)
    return stored if is_read else 32


def padded_macs(op: OperatorWork, device: Device) -> float:
    """MACs of a convolution as the device's kernel runs them, with channels padded to its
    blocks."""
    alignment = device.alignment
    into, out = op.in_channels // op.groups, op.out_channels // op.groups
    in_block = alignment.int8_in_block if op.integer else alignment.float_block
    out_block = alignment.int8_out_block if op.integer else alignment.float_block
    # A first layer has fewer channels than a block and a kernel of its own that does not pad them.
    padded_in = into if into < in_block else ceil_to(into, in_block)
    return op.macs / (into * out) * padded_in * ceil_to(out, out_block)


def is_aligned(op: OperatorWork, device: Device) -> bool:
    """Whether the kernel with the fast layout can run the convolution.

    ONNX Runtime's blocked float kernels need weights that are constants: a dequantised one is not.
    """
    if op.kind == "conv_transpose" or (not op.integer and is_dequantised(op, device)):
        return False
    multiple = device.alignment.multiple
    into = op.in_channels // op.groups
    narrow = into < device.alignment.float_block and op.groups == 1
    return op.out_channels % multiple == 0 and (narrow or into % multiple == 0)


def blocked_operators(work: Work, device: Device) -> frozenset[str]:
    """Names of the operators whose results lie in the blocked layout of float convolutions."""
    blocked: set[str] = set()
    for op in work.operators:
        layout_changes(op, device, blocked)
    return frozenset(blocked)


def layout_changes(op: OperatorWork, device: Device, blocked: set[str]) -> bool:
    """Whether inputs of `op` are reordered; a blocked result joins `blocked`."""
    kind = op.kind
    sources = not blocked.isdisjoint(op.sources)
    is_blocked = not op.integer and kind in ("conv", "depthwise_conv") and is_aligned(op, device)
    keeps = sources and kind in _KEEPS_LAYOUT
    if is_blocked or keeps:
        blocked.add(op.name)
    enters = is_blocked and not sources and op.in_channels >= device.alignment.float_block
    leaves = sources and not (is_blocked or keeps)
    return enters or leaves


def ceil_to(count: int, block: int) -> int:
    """The next multiple of `block`."""
    return -(-count // block) * block
