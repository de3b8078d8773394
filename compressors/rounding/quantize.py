"""Rounding to the nearest code, with the scale of each row that minimises its weighted error."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.compressors.matrix.algebra import SolverError
from paredown.compressors.rounding.codebook import exact_scales
from paredown.spaces.candidates.scale_groups import size_of

_EXACT_BITS = 4
_EXACT_EVENTS = 2**13
"""Codes are solved exactly up to 4 bits, and beyond while the exact solver has no more events to sort in
a row: fan-in x top code."""
_COARSE, _FINE = 40, 32
"""Scales tried: shares 0.3 to 1 of the full range, and quarters of a step of the largest code below it,
where the error of wide codes turns on whether the largest weights still fit."""
_LOOK, _SLACK = 4, 1e-3
"""Each fourth scale it is looked whether smaller ones can still win, and by how much they must not."""
_VANISHING = 2.0**-64
"""Scale of an all-zero row of 1-bit codes: its products with other scales are normal numbers still."""
_VALUES_AT_ONCE = 2**15
_REFINEMENTS = 4


@dataclass(frozen=True, kw_only=True)
class Codes:
    """A quantised weight matrix: int8 `codes` (R, K) and one float32 `scale` (R,) per row.

    Where groups of columns have scales of their own, `scale` is (R, groups). `product` is the codes
    times the Gram that they were found under, (R, K) in float64, where that was needed.
    """

    codes: Tensor
    scale: Tensor
    product: Tensor | None = None

    def dense(self) -> Tensor:
        """The float32 matrix (R, K) that the codes stand for."""
        return self.codes.to(torch.float32) * by_column(self.scale, self.codes.shape[1])


def by_column(scale: Tensor, columns: int) -> Tensor:
    """Scales (R,) or (R, groups) as factors of a matrix (R, columns): (R, 1) or (R, columns)."""
    if scale.ndim == 1:
        return scale.unsqueeze(1)
    size = size_of(columns, scale.shape[1])
    return scale.repeat_interleave(size, dim=1)[:, :columns]


def top_code(bits: int) -> int:
    """Largest code: codes are symmetric, -top..top, ternary at 2 bits; 1 bit is -1 or 1, never 0.

    Raises:
        SolverError: `bits` is outside 1..8.
    """
    if not 1 <= bits <= 8:
        raise SolverError(f"weight bits must be 1 to 8 for integer codes, got {bits}; 32 is float")
    return max(1, 2 ** (bits - 1) - 1)


def nearest_codes(steps: Tensor, bits: int) -> Tensor:
    """The nearest codes of values in units of their scale, halves to even; zero becomes 1 at 1 bit.

    >>> nearest_codes(torch.tensor([-0.4, 0.0, 1.7]), 1).tolist()
    [-1.0, 1.0, 1.0]
    """
    return nearest_codes_(steps.clone(), bits)


def nearest_codes_(steps: Tensor, bits: int) -> Tensor:
    """`nearest_codes` in place of the values."""
    if bits == 1:
        return steps.copy_(steps >= 0).mul_(2).sub_(1)
    top = top_code(bits)
    return steps.round_().clamp_(-top, top)


def round_to_nearest(weight: Tensor, bits: int, diagonal: Tensor | None = None) -> Codes:
    """Codes and scales that minimise sum_i d_i (scale * code_i - w_i)^2 in each row of (R, K).

    Up to 4 bits, and for short rows, the optimum is exact, over scales and codes together
    (`codebook.py`). Else the best of a grid of scales is refined by alternating least squares and
    rounding, which never raises the error. An all-zero row gets scale 1 and codes 0; at 1 bit, which
    has no code 0, a scale that vanishes beside any weight.

    Args:
        weight: The matrix (R, K).
        diagonal: Curvature d >= 0, (K,) or (R, K), for instance `gram_diagonal`; None weighs
            alike.
    """
    top = top_code(bits)
    weight = weight.double()
    weights = torch.ones_like(weight) if diagonal is None else diagonal.double().expand_as(weight)
    # Where no input is ever active nothing is at stake: weigh alike, so the codes stay sensible.
    weights = torch.where((weights > 0).any(dim=1, keepdim=True), weights, 1.0)
    if bits <= _EXACT_BITS or top * weight.shape[1] <= _EXACT_EVENTS:
        scale = exact_scales(weight, weights, range(0 if bits > 1 else 1, top + 1))
    else:
        # A few rows at a time, so that all passes over them stay in the processor's cache.
        rows = max(1, _VALUES_AT_ONCE // max(1, weight.shape[1]))
        pieces = zip(weight.abs().split(rows), weights.split(rows), strict=True)
        scale = torch.cat([_grid_scales(part, weigh, top) for part, weigh in pieces])
    return _assign(weight, scale, bits)


def _assign(weight: Tensor, scale: Tensor, bits: int) -> Codes:
    """The nearest code of every weight at given scales (R,); rows with scale 0 become zero."""
    # A scale below float32's normal numbers would be lost when stored: such a row is zero too.
    is_used = scale >= torch.finfo(torch.float32).tiny
    scale = torch.where(is_used, scale, 1.0 if bits > 1 else _VANISHING).to(torch.float32)
    steps = torch.where(is_used.unsqueeze(1), weight / scale.double().unsqueeze(1), 0.0)
    codes = nearest_codes_(steps, bits)
    return Codes(codes=codes.to(torch.int8), scale=scale)


def _grid_scales(magnitude: Tensor, weights: Tensor, top: int) -> Tensor:
    """Best scale of each row out of a grid of shares of the full range, then alternated."""
    full = magnitude.amax(dim=1, keepdim=True) / top
    full = torch.where(full > 0, full, 1.0)
    # Errors are compared in float32 for speed and settled in float64 below.
    small, weigh = magnitude.float(), weights.float()
    best_scale = full
    best_error = torch.full_like(full, torch.inf, dtype=torch.float32)
    coarse = torch.linspace(1.0, 0.3, _COARSE, dtype=torch.float64)
    fine = 1.0 - torch.arange(1, _FINE + 1, dtype=torch.float64) / (4 * top)
    for shares in (coarse.tolist(), fine.tolist()):
        for number, share in enumerate(shares):
            scale = (full * share).float()
            if number % _LOOK == _LOOK - 1 and _is_hopeless(small, weigh, scale * top, best_error):
                break  # shares fall
            rounded = torch.round(small / scale).clamp_(max=top).mul_(scale)
            error = rounded.sub_(small).square_().mul_(weigh).sum(dim=1, keepdim=True)
            best_scale = torch.where(error < best_error, full * share, best_scale)
            best_error = torch.minimum(error, best_error)
    for _ in range(_REFINEMENTS):
        codes = torch.round(magnitude / best_scale).clamp_(max=top)
        weighted = weights * codes
        b = (weighted * codes).sum(dim=1, keepdim=True)
        best_scale = torch.where(
            b > 0, (weighted * magnitude).sum(1, keepdim=True) / b, best_scale
        )
    return torch.where(magnitude.amax(dim=1) > 0, best_scale.squeeze(1), 0.0)


def _is_hopeless(small: Tensor, weigh: Tensor, largest: Tensor, best_error: Tensor) -> bool:
    """Whether in every row clipping alone costs more than the best error, at smaller scales too.

    Args:
        largest: What the largest code stands for (R, 1).
    """
    clipped = (small - largest).clamp_(min=0.0).square_().mul_(weigh).sum(dim=1, keepdim=True)
    # By more than what sums in float32 are off by; below zero there is nothing.
    return bool(((clipped > best_error * (1 + _SLACK)) | (best_error == 0)).all())
