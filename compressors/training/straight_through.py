"""Gradients through rounding: the operators of 8-bit codes as a relaxation sees them.

Rounding has no gradient. A straight-through estimate (Bengio, Leonard and Courville 2013,
arXiv:1308.3432) takes that of the clipped line that it rounds: one within the range of the codes, zero
beyond it. Values going forward are those of the operators of `spaces/graph`, bit by bit, so that what is
trained is what is exported. Tests hold the gradients against finite differences of the relaxation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from paredown.spaces.graph.facts import Result
from paredown.spaces.graph.functions import (
    DYNAMIC_QDQ,
    QDQ,
    quantize_dequantize,
    quantize_dequantize_by_range,
)
from paredown.spaces.graph.graph import Arguments, Node, call
from paredown.spaces.graph.recurrent import LSTM, ROWS, lstm_steps


class LearnedScale(NamedTuple):
    """A scale, shape (), and whether it gets the gradient of rounding, or that of clipping alone."""

    scale: Tensor
    by_rounding: bool


class _FixedRange(torch.autograd.Function):
    """`quantize_dequantize`, whose gradient passes where the value is within the codes."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, scale: float, zero_point: int, low: int, high: int
    ) -> Tensor:
        """The rounded values."""
        ctx.save_for_backward(x)
        ctx.bounds = scale * (low - zero_point), scale * (high - zero_point)  # type: ignore[attr-defined]
        return quantize_dequantize(x, scale, zero_point, low, high)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        """Zero where the value was clipped."""
        (x,) = ctx.saved_tensors
        low, high = ctx.bounds
        return gradient * ((x >= low) & (x <= high)), None, None, None, None


class _LearnedRange(torch.autograd.Function):
    """The same with a scale that learns, as LSQ has it (Esser et al. 2020, arXiv:1902.08153)."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        scale: Tensor,
        by_rounding: bool,
        zero_point: int,
        low: int,
        high: int,
    ) -> Tensor:
        """The rounded values."""
        ctx.save_for_backward(x, scale)
        ctx.by_rounding = by_rounding  # type: ignore[attr-defined]
        ctx.limits = (low - zero_point, high - zero_point)  # type: ignore[attr-defined]
        return quantize_dequantize(x, float(scale), zero_point, low, high)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """By the scale: rounding's error within the codes, the last code beyond them."""
        x, scale = ctx.saved_tensors
        low, high = ctx.limits
        steps = x / scale
        is_inside = (steps >= low) & (steps <= high)
        passed = gradient * is_inside
        # Of clipped values the gradient is that of the last code: with rounding, of what it is off by.
        limits = steps.clamp(low, high)
        by_scale = torch.dot(limits.flatten(), (gradient - passed).flatten())
        if ctx.by_rounding:
            off = limits.round().sub_(limits)
            by_scale += torch.dot(off.flatten(), passed.flatten())
        return passed, by_scale, None, None, None, None


class _OwnRange(torch.autograd.Function):
    """`quantize_dequantize_by_range`: nothing is clipped, so the gradient passes everywhere."""

    @staticmethod
    def forward(_: FunctionCtx, x: Tensor, rows: int, axis: int, outside: int) -> Tensor:
        """The rounded values."""
        return quantize_dequantize_by_range(x, rows, axis, outside)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        """The gradient as it is."""
        return gradient, None, None, None


def round_in_range(
    x: Tensor, scale: float | LearnedScale, zero_point: int, low: int, high: int
) -> Tensor:
    """`quantize_dequantize` with a gradient by `x`, and by the scale where that learns."""
    rounded: Tensor
    if isinstance(scale, LearnedScale):
        rounded = _LearnedRange.apply(x, *scale, zero_point, low, high)
    else:
        rounded = _FixedRange.apply(x, scale, zero_point, low, high)
    return rounded


def round_by_own_range(x: Tensor, rows: int, axis: int = 0, outside: int = 1) -> Tensor:
    """`quantize_dequantize_by_range` with a gradient by `x`."""
    rounded: Tensor = _OwnRange.apply(x, rows, axis, outside)
    return rounded


def differentiable(node: Node, arguments: Arguments, scales: Mapping[str, LearnedScale]) -> Result:
    """What the node's operator gives, with a gradient where it rounds.

    Args:
        scales: The learned scales of 8-bit tensors by the names of their nodes.
    """
    if node.op == QDQ:
        x, scale, *limits = arguments
        return round_in_range(x, scales.get(node.name, scale), *limits)
    if node.op == DYNAMIC_QDQ:
        return round_by_own_range(*arguments)
    if node.op == LSTM and arguments[ROWS] is not None:
        return lstm_steps(*arguments, round_by_range=round_by_own_range)
    return call(node, arguments)
