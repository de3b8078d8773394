"""Operators of our own: rounding to 8-bit codes and back, which ATen has no single operator for."""

from __future__ import annotations

import torch
from torch import Tensor

QDQ = "paredown.quantize_dequantize"
"""Rounds a tensor to 8-bit codes and back: (x, scale, zero_point, low, high)."""

DYNAMIC_QDQ = "paredown.quantize_dequantize_by_range"
"""The same by the range of the values themselves: (x, rows, axis, outside)."""

QUANTISERS = (QDQ, DYNAMIC_QDQ)

GETITEM = "getitem"
"""Picks one output of an operator that has several: (values, index)."""


def quantize_dequantize(x: Tensor, scale: float, zero_point: int, low: int, high: int) -> Tensor:
    """`x` rounded to the codes `low..high`, as ONNX QuantizeLinear then DequantizeLinear do."""
    # The zero point moves the limits, not the codes, and one tensor is made: half the time.
    codes = torch.div(x, scale).round_()
    return codes.clamp_(low - zero_point, high - zero_point).mul_(scale)


def quantize_dequantize_by_range(x: Tensor, rows: int, axis: int = 0, outside: int = 1) -> Tensor:
    """`x` rounded to the 256 codes of its own range, as ONNX DynamicQuantizeLinear does.

    A range holds for what is run at once: the batch is cut into pieces of `rows`, its size in the
    deployed model, so that samples that are scored together do not widen each other's range.

    Args:
        axis: The dimension that grows with the batch.
        outside: Steps of that dimension which the batch repeats in, as tokens do in front of it.
    """
    by_sample = x.unflatten(axis, (outside, -1)).movedim(axis + 1, 0)
    whole = len(by_sample) - len(by_sample) % rows
    if 0 < whole < len(by_sample):  # fewer samples are left at the end
        rounded = torch.cat(
            [_by_range(by_sample[:whole], whole // rows), _by_range(by_sample[whole:], 1)]
        )
    else:
        rounded = _by_range(by_sample, max(1, whole // rows))
    return rounded.movedim(0, axis + 1).reshape(x.shape)


def _by_range(x: Tensor, runs: int) -> Tensor:
    """Each of so many equal runs of rows, rounded by its own range."""
    values = x.reshape(runs, -1)
    low, high = torch.aminmax(values, dim=1, keepdim=True)
    low, high = low.clamp_max_(0.0), high.clamp_min_(0.0)
    scale = (high - low) / 255
    scale = torch.where(scale > 0, scale, 1.0)
    zero_point = (-low / scale).round_()
    codes = torch.div(values, scale).round_()
    return codes.clamp_(-zero_point, 255 - zero_point).mul_(scale).reshape(x.shape)
