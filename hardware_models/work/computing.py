"""How long a product's computing takes, by the kernel that runs it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from paredown.hardware_models.devices.device import Compute, Device
from paredown.hardware_models.work.alignment import (
    ceil_to,
    held_bits,
    is_aligned,
    narrow_slowdown,
    padded_macs,
)
from paredown.hardware_models.work.workload import OperatorWork

CONVOLUTIONS = frozenset({"conv", "depthwise_conv", "conv_transpose"})
"""Kinds of work that slide a kernel."""
_SHORTEST_COPY = 96
"""Codes lie with channels last, so that a row of a window is copied at once, and a short row takes as
long as one of 96 codes: with that, held-out errors on digits fell from 5.4 to 4.6 %."""


def computing_s(op: OperatorWork, device: Device, dequantised: bool) -> Mapping[str, float]:
    """Seconds by part on one thread, on channels padded to the device's blocks.

    Args:
        dequantised: Whether narrow weights are widened on every run.
    """
    rates = device.int8 if op.integer else device.float32
    prefix = "int8_" if op.integer else ""
    if op.kind == "depthwise_conv":
        return _depthwise_s(op, device, rates, prefix, dequantised)
    if op.kind not in CONVOLUTIONS:
        narrow = not op.integer and not dequantised and held_bits(op, device) < 32
        part = "attention" if op.kind in ("attention", "matmul") else "linear_macs"
        part = "narrow_linear_macs" if narrow else part
        if narrow:
            return {part: op.macs * narrow_slowdown(op) / rates.linear_macs_per_s.value}
        prefix = prefix if part == "linear_macs" else ""
        return {prefix + part: op.macs / rates.linear_macs_per_s.value}
    if is_aligned(op, device):
        part = "pointwise_macs" if math.prod(op.kernel_size) == 1 else "conv_macs"
        seconds = {prefix + part: padded_macs(op, device) / rates.conv_macs_per_s.value}
        return {**seconds, **_im2col(op, rates)} if op.integer else seconds
    macs_s = op.macs / rates.misaligned_macs_per_s.value
    return {prefix + "misaligned_macs": macs_s, **_im2col(op, rates)}


def _depthwise_s(
    op: OperatorWork, device: Device, rates: Compute, prefix: str, dequantised: bool
) -> Mapping[str, float]:
    if dequantised and not op.integer:
        # No depthwise kernel takes weights that are not constants: each channel goes its own way.
        columns = op.batch * op.out_spatial * op.in_channels * math.prod(op.kernel_size)
        return {"grouped_im2col": columns / rates.im2col_elements_per_s.value}
    padded = op.macs / op.out_channels * ceil_to(op.out_channels, device.alignment.float_block)
    part = "depthwise_macs" if math.prod(op.kernel_size) <= 9 else "wide_depthwise_macs"
    return {prefix + part: padded / rates.depthwise_macs_per_s.value}


def _im2col(op: OperatorWork, rates: Compute) -> Mapping[str, float]:
    if math.prod(op.kernel_size) == 1:
        return {}
    *rest, width = op.kernel_size
    row = width * op.in_channels
    if op.integer:
        row = max(row, _SHORTEST_COPY)
    columns = op.batch * op.out_spatial * math.prod(rest) * row
    part = "int8_im2col" if op.integer else "im2col"
    return {part: columns / rates.im2col_elements_per_s.value}
