"""Output errors that compressing a layer is expected to make, read off its statistics: nothing is solved.

Rounding errors of different weights hardly depend on each other, so what they add up to follows from the
diagonal of the Gram matrix alone. What compensation saves of it follows from one Cholesky factor: an
input counts with the variance that is left of it when those are known that make up for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.compressors.matrix.algebra import DAMPING, SolverError, damped_cholesky
from paredown.compressors.matrix.gram import in_groups
from paredown.compressors.rounding.quantize import nearest_codes, top_code
from paredown.spaces.candidates.zeros import UNITS, Zeros, keep_of

_SAMPLED_WEIGHTS = 2**18
_FEWEST_ROWS = 32
_SCALES = (1.0, 0.85, 0.7, 0.55, 0.42, 0.3, 0.2)
"""Largest code's weight as shares of the row's largest: the best of them is then refined."""
_REFINEMENTS = 2


def compensated_share(gram: Tensor) -> float:
    """Share of the errors of rounding that a sweep which compensates leaves: mean pivot over diagonal.

    Args:
        gram: (K, K); (groups, K, K); or (K,), a diagonal, where nothing compensates.
    """
    if gram.ndim == 1:
        return 1.0
    square = _square(gram)
    diagonal = square.diagonal(dim1=1, dim2=2)
    pivots = damped_cholesky(square).diagonal(dim1=1, dim2=2).square()
    # The damping is in the pivots, and in no error.
    left = (pivots - DAMPING * diagonal.mean(dim=1, keepdim=True)).clamp_min(0.0)
    return min(1.0, float(left.sum() / diagonal.sum()))


def inverse(gram: Tensor) -> Tensor:
    """The damped inverses (groups, K, K) of a Gram that is no diagonal, float32."""
    return torch.cholesky_inverse(damped_cholesky(_square(gram)))


def variance_left(gram: Tensor) -> Tensor:
    """Variances (groups, K) that are left of inputs where all others are known; (K,) of a diagonal."""
    if gram.ndim == 1:
        return gram.float()
    alone = gram.diagonal(dim1=-2, dim2=-1).float()
    return torch.minimum(inverse(gram).diagonal(dim1=1, dim2=2).reciprocal(), alone)


def by_row(of_groups: Tensor, rows: int) -> Tensor:
    """Values (groups, K) or (K,) of inputs for each of a matrix's rows, (rows, K)."""
    if of_groups.ndim == 1:
        return of_groups.expand(rows, -1)
    return of_groups.repeat_interleave(rows // len(of_groups), dim=0)


def _square(gram: Tensor) -> Tensor:
    return gram.float() if gram.ndim == 3 else gram.float().unsqueeze(0)


@dataclass(frozen=True, kw_only=True, eq=False)
class SampledRows:
    """Rows (n, K) of a matrix with their curvature (n,), of which each stands for `count` (n,) rows."""

    rows: Tensor
    curvature: Tensor
    count: Tensor
    numbers: Tensor

    @classmethod
    def of(cls, matrix: Tensor, curvature: Tensor) -> SampledRows:
        """All rows of a small matrix (R, K); of a large one those of most curvature, and some others.

        Raises:
            SolverError: The matrix or the curvature holds NaN or infinity.
        """
        if not (torch.isfinite(matrix).all() and torch.isfinite(curvature).all()):
            raise SolverError(
                "weights and Gram matrix must be finite, got NaN or infinity; check the model's "
                "weights and the calibration data"
            )
        total = len(matrix)
        size = min(total, max(_FEWEST_ROWS, _SAMPLED_WEIGHTS // matrix.shape[1]))
        order = curvature.argsort(descending=True, stable=True)
        most, rest = order[: size // 2], order[size // 2 :]
        others = rest[torch.linspace(0, len(rest) - 1, size - len(most)).round().long()]
        numbers = torch.cat([most, others])
        count = torch.ones(size, device=matrix.device)
        count[len(most) :] = len(rest) / len(others)
        return cls(
            rows=matrix[numbers].float(),
            curvature=curvature[numbers].float(),
            count=count,
            numbers=numbers,
        )

    def sum(self, errors: Tensor) -> float:
        """Errors (n, K) of the sampled rows, weighed by their curvature and summed over all rows."""
        return float((self.curvature * self.count) @ errors.sum(dim=1))


def rounding_errors(weight: Tensor, bits: int, group_size: int) -> Tensor:
    """Squared errors (R, K) of weights rounded to the nearest code, each row or group at a good scale.

    Entries that are zero stay zero and say nothing about the scale.
    """
    rows, columns = weight.shape
    if group_size:
        grouped = rounding_errors(in_groups(weight, group_size).flatten(0, 1), bits, 0)
        return grouped.reshape(rows, -1)[:, :columns]
    top, largest = top_code(bits), weight.abs().amax(dim=1, keepdim=True)
    largest = torch.where(largest > 0, largest, 1.0)
    best = largest / top
    least = torch.full_like(largest, torch.inf)
    for share in _SCALES:
        scale = largest * (share / top)
        error = _residual(weight, scale, bits).square().sum(dim=1, keepdim=True)
        best = torch.where(error < least, scale, best)
        least = torch.minimum(error, least)
    for _ in range(_REFINEMENTS):
        codes = _codes(weight, best, bits)
        size = codes.square().sum(dim=1, keepdim=True)
        fitted = (codes * weight).sum(dim=1, keepdim=True) / size
        best = torch.where((size > 0) & (fitted > 0), fitted, best)
    return _residual(weight, best, bits).square()


def _residual(weight: Tensor, scale: Tensor, bits: int) -> Tensor:
    return _codes(weight, scale, bits) * scale - weight


def _codes(weight: Tensor, scale: Tensor, bits: int) -> Tensor:
    return torch.where(weight == 0, 0.0, nearest_codes(weight / scale, bits))


def removed(scores: Tensor, count: Tensor, zeros: Zeros) -> Tensor:
    """Mask (R, K) of the weights of lowest score that `zeros` takes away.

    Args:
        count: How many rows each of them stands for, (R,).
    """
    columns = scores.shape[1]
    if zeros.pattern not in UNITS:
        keep, of = keep_of(zeros.pattern)
        whole = columns // of * of
        groups = scores[:, :whole].unflatten(1, (-1, of))
        rank = groups.argsort(dim=2).argsort(dim=2)
        gone = (rank < of - keep).flatten(1)
    else:
        unit = UNITS[zeros.pattern]
        whole = columns // unit * unit
        by_unit = scores[:, :whole].unflatten(1, (-1, unit)).sum(dim=2)
        ordered, order = by_unit.flatten().sort()
        share = count.unsqueeze(1).expand_as(by_unit).flatten()[order].cumsum(0)
        last = int(torch.searchsorted(share, zeros.share * share[-1]))
        below = by_unit < ordered[last] if len(ordered) else by_unit.bool()
        gone = below.repeat_interleave(unit, dim=1)
    return torch.nn.functional.pad(gone, (0, columns - whole))
