"""Rounding by coordinate descent: every code is set anew, given all others, until none changes.

The quadratic form of AdaRound (Nagel et al. 2020, arXiv:2004.10568), minimised without training: exact
coordinate updates as in QuantEase (Behdin et al. 2023, arXiv:2309.01885), started from GPTQ at several
scales, and every row's scale refitted between the sweeps. It matters at 3 bits and below.
"""

from __future__ import annotations

import torch
from torch import Tensor

from paredown.compressors.gptq import Target, gptq, sweep
from paredown.compressors.matrix import gram_diagonal, split_groups
from paredown.compressors.quantize import Codes, round_to_nearest, top_code

_STARTS = (1.0, 0.85, 1.15)
"""Scales to start GPTQ from, as shares of the scale that is best for rounding alone."""
_MOST_BITS = 4
"""Above, GPTQ leaves nothing worth a descent, which costs ten times as long."""
_SWEEPS = 8
_BLOCK = 64


def descend(weight: Tensor, gram: Tensor, bits: int, mask: Tensor | None = None) -> Codes:
    """Codes of (R, K) whose error under `gram` is at most GPTQ's and rounding's, row by row.

    Arguments as for `gptq`. A diagonal Gram leaves nothing to compensate: scales are refitted.
    """
    if bits > _MOST_BITS:
        return gptq(weight, gram, bits, mask)
    target = Target.of(weight, gram)
    kept = target.weight if mask is None else target.weight * mask
    nearest = round_to_nearest(kept, bits, gram_diagonal(gram, len(weight)))
    best = target.refit(nearest)
    if gram.ndim == 1:
        return best.codes
    top = top_code(bits)
    grouped, square = split_groups(target.weight, gram)
    count = len(_STARTS)
    rows = grouped.shape[1]
    wide = grouped.repeat(1, count, 1)
    allowed = None if mask is None else mask.reshape(grouped.shape).repeat(1, count, 1)
    factors = torch.tensor(_STARTS, dtype=wide.dtype, device=wide.device)
    scale = nearest.scale.double().reshape(len(square), 1, rows) * factors.view(1, -1, 1)
    scale = scale.reshape(len(square), -1)
    codes = sweep(wide, square, scale, top, allowed)
    codes, scale = descend_codes(wide, square, codes, scale, top, allowed)
    for start in range(count):
        own = slice(start * rows, (start + 1) * rows)
        found = Codes(
            codes=codes[:, own].reshape(weight.shape).to(torch.int8),
            scale=scale[:, own].flatten().float(),
        )
        best = target.refit(found).or_better(best)
    return best.codes


def descend_codes(
    weight: Tensor,
    gram: Tensor,
    codes: Tensor,
    scale: Tensor,
    top: int,
    allowed: Tensor | None = None,
    sweeps: int = _SWEEPS,
) -> tuple[Tensor, Tensor]:
    """Codes and scales after at most `sweeps` sweeps; no step raises a row's error.

    Args:
        weight: (groups, rows, K), `gram` (groups, K, K), `codes` like the weight, `scale` (groups,
            rows), all float64.
        allowed: Boolean like the weight; a False entry gets or keeps the code 0.
    """
    codes, scale = codes.clone(), fitted_scale(weight, gram, codes, scale)
    for _ in range(sweeps):
        before = codes.clone()
        _sweep_once(weight, gram, codes, scale, top, allowed)
        scale = fitted_scale(weight, gram, codes, scale)
        if torch.equal(before, codes):
            break
    return codes, scale


def fitted_scale(weight: Tensor, gram: Tensor, codes: Tensor, scale: Tensor) -> Tensor:
    """The scale (groups, rows) of least error for given codes; the old one where there is none."""
    seen = codes @ gram
    size, overlap = (seen * codes).sum(dim=2), (seen * weight).sum(dim=2)
    is_fit = (size > 0) & (overlap > 0)
    return torch.where(is_fit, overlap / torch.where(is_fit, size, 1.0), scale)


def _sweep_once(
    weight: Tensor, gram: Tensor, codes: Tensor, scale: Tensor, top: int, allowed: Tensor | None
) -> None:
    """One sweep over the columns, in place on `codes`; blocks keep the gradient up to date."""
    diagonal = gram.diagonal(dim1=1, dim2=2)
    # A dead input's code moves nothing: an infinite curvature leaves it where it is.
    curvature = torch.where(diagonal > 0, diagonal, torch.inf)
    gradient = (codes * scale.unsqueeze(2) - weight) @ gram
    columns = codes.shape[2]
    for start in range(0, columns, _BLOCK):
        stop = min(start + _BLOCK, columns)
        near, square = gradient[:, :, start:stop], gram[:, start:stop, start:stop]
        moved = torch.empty_like(near)
        for i in range(stop - start):
            old = codes[:, :, start + i]
            step = near[:, :, i] / (scale * curvature[:, start + i].unsqueeze(1))
            new = torch.round(old - step).clamp_(-top, top)
            if allowed is not None:
                new = new * allowed[:, :, start + i]
            moved[:, :, i] = (new - old) * scale
            codes[:, :, start + i] = new
            near[:, :, i + 1 :] += moved[:, :, i : i + 1] * square[:, i : i + 1, i + 1 :]
        gradient[:, :, stop:] += moved @ gram[:, start:stop, stop:]
