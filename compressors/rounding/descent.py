"""Rounding by coordinate descent: every code is set anew, given all others, until none changes.

The quadratic form of AdaRound (Nagel et al. 2020, arXiv:2004.10568), minimised without training: exact
coordinate updates as in QuantEase (Behdin et al. 2023, arXiv:2309.01885), started from GPTQ at several
scales, and every row's scale refitted between the sweeps. It matters at 3 bits and below.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from paredown.compressors.matrix.algebra import gram_diagonal
from paredown.compressors.rounding.compensated import gptq, sweep
from paredown.compressors.rounding.quantize import Codes, nearest_codes_, round_to_nearest
from paredown.compressors.rounding.target import Target

_STARTS = (1.0, 0.85, 1.15)
"""Scales to start GPTQ from, as shares of the scale that is best for rounding alone."""
_MOST_BITS = 4
"""Above, GPTQ leaves nothing worth a descent, which costs ten times as long."""
_SWEEPS = 8
_BLOCK = 64


def descend(target: Target, bits: int, mask: Tensor | None = None) -> Codes:
    """Codes of (R, K) whose error under the Gram is at most GPTQ's and rounding's, row by row.

    Arguments as for `gptq`. A diagonal Gram leaves nothing to compensate: scales are refitted.
    """
    if bits > _MOST_BITS:
        return gptq(target, bits, mask)
    kept = target.weight if mask is None else target.weight * mask
    nearest = round_to_nearest(kept, bits, gram_diagonal(target.gram.values, len(kept)))
    best = target.refit(nearest)
    if not target.gram.compensates:
        return best.codes
    grouped, square = target.grouped, target.gram.square
    count = len(_STARTS)
    rows = grouped.shape[1]
    wide = grouped.repeat(1, count, 1)
    allowed = None if mask is None else mask.reshape(grouped.shape).repeat(1, count, 1)
    factors = torch.tensor(_STARTS, dtype=wide.dtype, device=wide.device)
    scale = nearest.scale.double().reshape(len(square), 1, rows) * factors.view(1, -1, 1)
    scale = scale.reshape(len(square), -1)
    codes = sweep(wide, target.gram, scale, bits, allowed)
    codes, scale = descend_codes(wide, square, codes, scale, bits, allowed)
    for start in range(count):
        own = slice(start * rows, (start + 1) * rows)
        found = Codes(
            codes=codes[:, own].reshape(kept.shape).to(torch.int8),
            scale=scale[:, own].flatten().float(),
        )
        best = target.refit(found).or_better(best)
    return best.codes


def descend_codes(
    weight: Tensor,
    gram: Tensor,
    codes: Tensor,
    scale: Tensor,
    bits: int,
    allowed: Tensor | None = None,
    sweeps: int = _SWEEPS,
) -> tuple[Tensor, Tensor]:
    """Codes and scales after at most `sweeps` sweeps; no step raises a row's error.

    Args:
        weight: (groups, rows, K), `gram` (groups, K, K), `codes` like the weight, `scale` (groups,
            rows), all float64.
        allowed: Boolean like the weight; a False entry gets or keeps the code 0.
    """
    # Columns first: a column is then one run of memory.
    weight, codes = (t.transpose(1, 2).contiguous() for t in (weight, codes))
    allowed = None if allowed is None else allowed.transpose(1, 2).to(codes.dtype).contiguous()
    scale = fitted_scale(weight, gram, codes, scale)
    for _ in range(sweeps):
        before = codes.clone()
        _sweep_once(weight, gram, codes, scale, bits, allowed)
        scale = fitted_scale(weight, gram, codes, scale)
        if torch.equal(before, codes):
            break
    return codes.transpose(1, 2).contiguous(), scale


def fitted_scale(weight: Tensor, gram: Tensor, codes: Tensor, scale: Tensor) -> Tensor:
    """The scale (groups, rows) of least error for given codes; the old one where there is none.

    Args:
        weight: (groups, K, rows), columns first, as `codes`.
    """
    seen = gram @ codes
    size, overlap = (seen * codes).sum(dim=1), (seen * weight).sum(dim=1)
    is_fit = (size > 0) & (overlap > 0)
    return torch.where(is_fit, overlap / torch.where(is_fit, size, 1.0), scale)


def sweep_columns_(
    codes: Tensor,
    weight: Tensor,
    gram: Tensor,
    scale: Tensor,
    settle: Callable[[int, Tensor], Tensor],
) -> None:
    """Sets every column of `codes` once, in place; blocks keep the gradient up to date.

    Args:
        codes: (groups, K, rows), columns first, as `weight`; `scale` (groups, rows), or shaped like
            the codes where columns have scales of their own.
        settle: (index, the best values of that column, in steps of the scale) -> its codes. A dead
            input's best values are the codes that it has.
    """
    diagonal = gram.diagonal(dim1=1, dim2=2)
    # A dead input's code moves nothing: an infinite curvature leaves it where it is.
    curvature = torch.where(diagonal > 0, diagonal, torch.inf)
    steps = (scale if scale.ndim == 3 else scale.unsqueeze(1)).expand_as(codes)
    pace = 1 / (curvature.unsqueeze(2) * steps)
    gradient = gram @ (codes * steps - weight)
    columns = codes.shape[1]
    for start in range(0, columns, _BLOCK):
        stop = min(start + _BLOCK, columns)
        moved = torch.empty_like(gradient[:, start:stop])
        for i in range(start, stop):
            best = torch.addcmul(codes[:, i], gradient[:, i], pace[:, i], value=-1)
            new = settle(i, best)
            move = (new - codes[:, i]).mul_(steps[:, i])
            codes[:, i], moved[:, i - start] = new, move
            gradient[:, i + 1 : stop].addcmul_(
                gram[:, i, i + 1 : stop].unsqueeze(2), move.unsqueeze(1)
            )
        if stop < columns:
            gradient[:, stop:].baddbmm_(gram[:, stop:, start:stop], moved)


def _sweep_once(
    weight: Tensor, gram: Tensor, codes: Tensor, scale: Tensor, bits: int, allowed: Tensor | None
) -> None:
    """Every code set to the nearest one, given all others."""

    def _settle(index: int, best: Tensor) -> Tensor:
        code = nearest_codes_(best, bits)
        return code if allowed is None else code.mul_(allowed[:, index])

    sweep_columns_(codes, weight, gram, scale, _settle)
