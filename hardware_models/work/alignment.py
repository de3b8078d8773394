"""How channels are padded, and where values lie in the blocked layout of float convolutions."""

from __future__ import annotations

from paredown.hardware_models.devices.device import Device
from paredown.hardware_models.work.workload import CONTAINER_BITS, OperatorWork, Work
from paredown.spaces.structure.quantized_values import NARROW_BLOCK, reads_narrow_weights

FOLDS_CONSTANTS = "onnxruntime"
"""The runtime that computes with constants once, when a model is loaded."""
# Operators that keep the blocked layout of the float convolutions around them.
_KEEPS_LAYOUT = frozenset({"add", "mul", "activation", "pool", "concat", "resize"})
_NARROW_SLOWDOWN = 2.0
"""MatMulNBits unpacks as it multiplies: 1024 x 1024 in 4 bits at one row took 18 us on a Zen 5."""
_WIDE_BLOCKS = 0.78
"""Share of that with blocks of 128 inputs: 33.4 us on a Xeon, against 43.6 with blocks of 32
(`benchmarks/operators/group_scales.py`)."""


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
    if op.integer or op.kind == "embedding":  # rows are picked of codes
        return 8
    rows = op.output_elements // max(1, op.out_channels)
    torn = op.onnx_type == "int2" and op.out_channels % 4 != 0
    is_read = op.kind == "linear" and not torn and reads_narrow_weights(rows, op.weight_count)
    # A layer that reads codes without an integer kernel has its weights made floats as well.
    return stored if is_read and op.activation_bits == 32 else 32


def narrow_slowdown(op: OperatorWork) -> float:
    """How much slower a product of narrow weights runs than one of floats that lie in a cache."""
    block = op.group_size or NARROW_BLOCK
    return _NARROW_SLOWDOWN * (_WIDE_BLOCKS if block >= NARROW_BLOCK else 1.0)


def weight_level(work: Work, device: Device) -> int:
    """Index of the fastest level of memory that holds all weights as kernels read them; else the last.

    Every inference walks them all.
    """
    layers = (op for op in work.operators if op.weight_count)
    bits = {op.weight: op.weight_count * held_bits(op, device) for op in layers}
    resident_bytes = sum(bits.values()) // 8
    for index, level in enumerate(device.memory.levels):
        if level.size_bytes is None or resident_bytes <= level.size_bytes:
            return index
    return len(device.memory.levels) - 1


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

    ONNX Runtime's blocked float kernels need weights that are constants: a dequantised one is not. They
    pad the outputs of a convolution without groups, whatever their number; integer kernels do not.
    """
    if op.kind == "conv_transpose" or (not op.integer and is_dequantised(op, device)):
        return False
    if op.kind == "depthwise_conv":
        return op.out_channels % device.alignment.float_block == 0
    multiple = device.alignment.multiple
    into = op.in_channels // op.groups
    narrow = into < device.alignment.float_block and op.groups == 1
    pads_outputs = op.groups == 1 and not op.integer
    fits = pads_outputs or op.out_channels % multiple == 0
    return fits and (narrow or into % multiple == 0)


def blocked_operators(work: Work, device: Device) -> frozenset[str]:
    """Names of the operators whose results lie in the blocked layout of float convolutions."""
    blocked: set[str] = set()
    for op in work.operators:
        layout_changes(op, device, blocked)
    return frozenset(blocked)


def layout_changes(op: OperatorWork, device: Device, blocked: set[str]) -> bool:
    """Whether inputs of `op` are reordered; a blocked result joins `blocked`."""
    has_blocked = not blocked.isdisjoint(op.sources)
    if op.integer or op.kind not in ("conv", "depthwise_conv") or not is_aligned(op, device):
        # An addition of values in both layouts is computed plain.
        keeps = has_blocked and op.kind in _KEEPS_LAYOUT and blocked.issuperset(op.sources)
        # Blocked pools take whole blocks.
        keeps &= op.kind != "pool" or op.in_channels % device.alignment.float_block == 0
        if keeps:
            blocked.add(op.name)
        return has_blocked and not keeps
    blocked.add(op.name)
    # With fewer input channels than a block a convolution reads plain values and writes blocks.
    reads_plain = op.in_channels < device.alignment.float_block
    return has_blocked == reads_plain


def runs_alone(op: OperatorWork, blocked: set[str], alone: set[str]) -> bool:
    """Whether an operator is a kernel of its own, though the graph would let it fuse.

    ONNX Runtime adds inside a float convolution in the blocked layout only; the activation behind
    an addition that is left alone is alone too. Such operators join `alone`.

    Args:
        blocked: As `layout_changes` left it, `op` included.
    """
    torn_add = op.kind == "add" and op.fused and op.name not in blocked
    if torn_add or (op.kind == "activation" and op.fused and not alone.isdisjoint(op.sources)):
        alone.add(op.name)
        return True
    return not op.fused


def ceil_to(count: int, block: int) -> int:
    """The next multiple of `block`."""
    return -(-count // block) * block
