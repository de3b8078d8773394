"""Gradients through rounding: the operators of 8-bit codes as a relaxation sees them.

Rounding has no gradient. A straight-through estimate (Bengio, Leonard and Courville 2013,
arXiv:1308.3432) takes that of the clipped line that it rounds: one within the range of the codes, zero
beyond it. Values going forward in float32 are those of the operators of `spaces/graph`, bit by bit, so
that what is trained is what is exported. Tests hold the gradients against finite differences of the
relaxation.
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

_ATEN = torch.ops.aten
_EDGE = 1e-3
"""Steps beyond the last code that count as within: values that were rounded before lie on it."""
_AT_ONCE = 2**16
"""Values whose gradients are found at once: few enough to stay in the processor's cache."""


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
        ctx.bounds = _bounds(scale, low - zero_point, high - zero_point)  # type: ignore[attr-defined]
        return quantize_dequantize(x, scale, zero_point, low, high)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        """Zero where the value was clipped."""
        (x,) = ctx.saved_tensors
        return _ATEN.hardtanh_backward(gradient, x, *ctx.bounds), None, None, None, None


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
        ctx.save_for_backward(x)
        ctx.by_rounding, ctx.scale = by_rounding, float(scale)  # type: ignore[attr-defined]
        ctx.limits = (low - zero_point, high - zero_point)  # type: ignore[attr-defined]
        return quantize_dequantize(x, float(scale), zero_point, low, high)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """By the scale: rounding's error within the codes, the last code beyond them."""
        (x,) = ctx.saved_tensors
        # In the order of memory, whatever the layout, so that pieces are without gaps.
        order = sorted(range(x.ndim), key=x.stride, reverse=True)
        ordered = x.permute(order)
        flat, gradients = ordered.reshape(-1), gradient.permute(order).reshape(-1)
        passed = torch.empty_like(flat)
        by_scale = x.new_zeros((), dtype=torch.float32)
        pieces = zip(*(v.split(_AT_ONCE) for v in (flat, gradients, passed)), strict=True)
        for x_, gradient_, passed_ in pieces:
            by_scale += _through_range(
                x_, gradient_, passed_, ctx.scale, ctx.limits, by_rounding=ctx.by_rounding
            )
        by_x = passed.view(ordered.shape).permute([order.index(d) for d in range(x.ndim)])
        return by_x, by_scale, None, None, None, None


def _through_range(
    x: Tensor,
    gradient: Tensor,
    passed: Tensor,
    scale: float,
    limits: tuple[int, int],
    *,
    by_rounding: bool,
) -> Tensor:
    """Writes the gradient by `x` into `passed`; the gradient by the scale, shape ()."""
    low, high = limits
    _ATEN.hardtanh_backward(gradient, x, *_bounds(scale, low, high), grad_input=passed)
    # Of values in 16 bits: their sums would lose digits, and are many times slower on CPUs.
    x, gradient, passed = x.float(), gradient.float(), passed.float()
    steps = x / scale
    # Within the codes rounding is off by code - step; clipping alone counts as no error there.
    inside = torch.dot(passed, steps) if by_rounding else None
    codes = steps.round_().clamp_(low, high)
    if inside is None:
        inside = torch.dot(passed, codes)
    return torch.dot(gradient, codes) - inside


def _bounds(scale: float, low: int, high: int) -> tuple[float, float]:
    """Between which values pass their gradients, of codes without their zero point."""
    return scale * (low - _EDGE), scale * (high + _EDGE)


class _OwnRange(torch.autograd.Function):
    """`quantize_dequantize_by_range`: nothing is clipped, so the gradient passes everywhere."""

    @staticmethod
    def forward(_: FunctionCtx, x: Tensor, rows: int, axis: int, outside: int) -> Tensor:
        """The rounded values."""
        return quantize_dequantize_by_range(x, rows, axis, outside)

    @staticmethod
    def backward(_: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None, None, None]:
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
        gates, hidden, cell, weight, bias, reverse, rows = arguments
        return lstm_steps(gates, hidden, cell, weight, bias, reverse, rows, round_by_own_range)
    return call(node, arguments)
