"""Memory that weights take once ONNX Runtime has loaded a model: not what they take in the file.

The runtime rearranges weights for its kernels when a session is made, and lets go of what it read.
Narrow weights keep their width only where a kernel reads them narrow; elsewhere they are widened once,
to bytes beside integer kernels and to floats beside float ones. Rules of ONNX Runtime 1.31.1 on x86,
held against the memory of processes by `benchmarks/storage/weight_memory.py`.
"""

from __future__ import annotations

import math

from paredown.hardware_models.devices.device import Device
from paredown.hardware_models.work.alignment import ceil_to, held_bits, is_dequantised
from paredown.hardware_models.work.workload import OperatorWork, Work
from paredown.spaces.structure.quantized_values import NARROW_BLOCK

_MATRIX_OUTPUTS = 16
"""Outputs of a packed matrix are padded to a multiple of this."""
_OUTPUT_SUM_BYTES = 4
"""Integer kernels keep the sum of an output's codes, which a zero point is multiplied with."""
_NARROW_BLOCK_BYTES = 12
"""Of each block of narrow weights: its scale as loaded, its scale as packed, and the sum of its codes."""


def weight_memory_bytes(work: Work, device: Device) -> int:
    """Bytes that the layers' weights take in a session; one that layers share counts once.

    Biases and scales of channels are not counted, nor what any session takes (about half a megabyte).

    Args:
        device: One whose runtime is ONNX Runtime; the memory of others follows rules of their own.
    """
    found = {op.weight: _weight_bytes(op, device) for op in work.operators if op.weight}
    return sum(found.values())


def _weight_bytes(op: OperatorWork, device: Device) -> int:
    if is_dequantised(op, device):  # kept as bytes; floats of it pass by on every run
        return op.weight_count
    bits = held_bits(op, device)
    if op.kind == "embedding":
        return op.weight_count * bits // 8
    per_output = op.weight_count // op.out_channels
    if op.integer:
        if op.kind == "depthwise_conv":
            return op.weight_count
        return ceil_to(op.out_channels, _MATRIX_OUTPUTS) * (per_output + _OUTPUT_SUM_BYTES)
    if bits < 32:
        size = op.group_size or NARROW_BLOCK
        blocks = op.out_channels * math.ceil(per_output / size)
        return blocks * (size * bits // 8 + _NARROW_BLOCK_BYTES)
    return 4 * ceil_to(op.out_channels, _float_multiple(op, device)) * per_output


def _float_multiple(op: OperatorWork, device: Device) -> int:
    if op.kind == "linear":
        return _MATRIX_OUTPUTS
    is_blocked = op.kind in ("conv", "depthwise_conv")
    return device.memory.float_block_channels if is_blocked else 1
