"""One exact solver for scaled codebooks: binary, ternary, m-bit, with and without zeros forced.

Minimises 1/2 sum_i d_i (a b_i - w_i)^2 over a scale a > 0 and codes b from a symmetric set of levels.
With the loss's curvature d it is LAB (Hou, Yao and Kwok 2017, arXiv:1611.01600), LAT and LAQ (Hou and
Kwok 2018, arXiv:1802.08635); with d = 1 it is BWN, optimal TWN and the scale search of PTQ. At the
optimum the codes are nearest levels, so as the scale falls they pass through a chain of states, one
step of one weight at a time: a sort and two cumulative sums visit them all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from paredown.compressors.matrix.algebra import SolverError

Granularity = Literal["row", "tensor"]

_EVENTS_AT_ONCE = 2**16
"""So few that the passes over them stay in the processor's cache."""
_RESTARTS, _TOPS = 8, 4
"""Scales that sparse codes start from: so many quantiles of |w| at each of the largest levels."""
_ALTERNATIONS = 60


@dataclass(frozen=True, kw_only=True)
class ScaledCodes:
    """Levels `codes` (R, K) with a sign, and the `scale` (R,) of each row; both float64."""

    codes: Tensor
    scale: Tensor

    def dense(self) -> Tensor:
        """The matrix (R, K) that the codes stand for."""
        return self.codes * self.scale.unsqueeze(1)


def linear_levels(bits: int) -> tuple[float, ...]:
    """Levels k / top of `bits`-bit codes, zero first; one bit is binary and has no zero.

    >>> linear_levels(3)
    (0.0, 0.3333333333333333, 0.6666666666666666, 1.0)
    """
    top = 2 ** (bits - 1) - 1
    return (1.0,) if bits == 1 else tuple(level / top for level in range(top + 1))


def logarithmic_levels(bits: int) -> tuple[float, ...]:
    """Zero and powers of two up to 1, as many as `bits` bits distinguish with a sign.

    >>> logarithmic_levels(3)
    (0.0, 0.25, 0.5, 1.0)
    """
    top = 2 ** (bits - 1) - 1
    return (1.0,) if bits == 1 else (0.0, *(2.0 ** (k - top + 1) for k in range(top)))


def fit_scaled_codebook(
    w: Tensor,
    d: Tensor | None,
    levels: Sequence[float],
    granularity: Granularity = "row",
    sparsity: float | None = None,
) -> ScaledCodes:
    """The codes and scales of least curvature-weighted error, sign-symmetric.

    Exact without `sparsity`: every jointly optimal pair is among the states visited. With it, at most
    n - round(sparsity * n) weights of each row (or of the tensor) stay: exact half-steps of scale and
    codes alternate from several scales, which agrees with brute force on small instances but is
    proved monotone only. An all-zero row, or one without curvature on any nonzero weight, is solved
    unweighted; all zeros give scale 0 and codes 0.

    Args:
        w: The matrix (R, K).
        d: Curvature >= 0 that broadcasts to it; None weighs alike.
        levels: Magnitudes, ascending and >= 0. Without a 0 a weight of exactly 0 takes the smallest
            positive level, as sgn(0) = 1.
        granularity: One scale for each row, or one for the whole tensor.
        sparsity: Share of zeros in [0, 1); needs the level 0.

    Raises:
        SolverError: Levels are not ascending, or a sparsity is given without the level 0.

    >>> fit_scaled_codebook(torch.tensor([[1.0, -3.0]]), None, linear_levels(1)).dense().tolist()
    [[2.0, -2.0]]
    """
    _check(levels, sparsity)
    shape = w.shape
    w = w.double()
    d = torch.ones_like(w) if d is None else d.double().expand_as(w)
    if granularity == "tensor":
        w, d = w.reshape(1, -1), d.reshape(1, -1)
    level = torch.tensor(tuple(levels), dtype=w.dtype, device=w.device)
    pieces = [_fit(x, c, level, sparsity) for x, c in _pieces(w, d, level)]
    codes = torch.cat([codes for codes, _ in pieces]).reshape(shape)
    scale = torch.cat([scale for _, scale in pieces])
    return ScaledCodes(codes=codes, scale=scale.expand(shape[0]).clone())


def exact_scales(w: Tensor, d: Tensor, levels: Sequence[float]) -> Tensor:
    """The scales (R,) alone of `fit_scaled_codebook`, for a float64 matrix and curvature (R, K)."""
    level = torch.tensor(tuple(levels), dtype=w.dtype, device=w.device)
    return torch.cat([_exact_scale(x.abs(), c, level) for x, c in _pieces(w, d, level)])


def alternate(
    w: Tensor, d: Tensor | None, levels: Sequence[float], scale: Tensor, steps: int = 10
) -> ScaledCodes:
    """Codes and scales after alternating exact half-steps from `scale` (R,): LAT_a and LAQ's solver.

    The error never rises. A scale so large that every code is 0 is halved instead of kept.
    """
    _check(levels, None)
    w = w.double()
    d = torch.ones_like(w) if d is None else d.double().expand_as(w)
    level = torch.tensor(tuple(levels), dtype=w.dtype, device=w.device)
    scale = scale.double()
    for _ in range(steps):
        codes = _nearest(w.abs(), scale, level)
        scale = torch.where((codes != 0).any(dim=1), _best_scale(w.abs(), d, codes), scale / 2)
    return ScaledCodes(codes=_nearest(w.abs(), scale, level) * _sign(w), scale=scale)


def fit_two_scales(w: Tensor, d: Tensor | None, levels: Sequence[float]) -> tuple[Tensor, Tensor]:
    """LAT2: the matrix (R, K) of best codes with one scale for each sign, and the scales (R, 2).

    The problem separates: positive weights take the first scale, negative ones the second. A sign
    that does not occur has scale 0.
    """
    weights = torch.ones_like(w) if d is None else d.expand_as(w)
    parts = [fit_scaled_codebook(half.clamp_min(0), weights, levels) for half in (w, -w)]
    dense = parts[0].dense() - parts[1].dense()
    return dense, torch.stack([part.scale for part in parts], dim=1)


def ternary_by_threshold(w: Tensor) -> ScaledCodes:
    """TWN (Li et al. 2016, arXiv:1605.04711): weights beyond 0.7 mean |w| share their mean."""
    w = w.double()
    magnitude = w.abs()
    codes = (magnitude > 0.7 * magnitude.mean(dim=1, keepdim=True)).double()
    scale = _best_scale(magnitude, torch.ones_like(w), codes)
    return ScaledCodes(codes=codes * _sign(w), scale=scale)


def _check(levels: Sequence[float], sparsity: float | None) -> None:
    rises = all(a < b for a, b in pairwise(levels))
    if not levels or levels[0] < 0 or levels[-1] <= 0 or not rises:
        raise SolverError(
            f"levels must be ascending magnitudes from 0 up, got {tuple(levels)}; sort them"
        )
    if sparsity is None:
        return
    if not 0.0 <= sparsity < 1.0:
        raise SolverError(f"sparsity must be in [0, 1), got {sparsity}; give the share of zeros")
    if levels[0] != 0:
        raise SolverError(f"sparsity needs the level 0, got {tuple(levels)}; add it")


def _pieces(w: Tensor, d: Tensor, level: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """A few rows at a time, weighed alike where no curvature is at stake."""
    at_stake = ((d > 0) & (w != 0)).any(dim=1, keepdim=True)
    d = torch.where(at_stake, d, 1.0)
    rows = max(1, _EVENTS_AT_ONCE // max(1, w.shape[1] * len(level)))
    return zip(w.split(rows), d.split(rows), strict=True)


def _fit(w: Tensor, d: Tensor, level: Tensor, sparsity: float | None) -> tuple[Tensor, Tensor]:
    magnitude = w.abs()
    if sparsity is None:
        scale = _exact_scale(magnitude, d, level)
        codes = _nearest(magnitude, scale, level)
    else:
        kept = max(1, w.shape[1] - round(sparsity * w.shape[1]))
        codes, scale = _fit_sparse(magnitude, d, level, kept)
    codes = torch.where((scale > 0).unsqueeze(1), codes * _sign(w), 0.0)
    return codes, scale


def _exact_scale(magnitude: Tensor, d: Tensor, level: Tensor) -> Tensor:
    """Scale (R,) of the best state of the chain; O(K L log(K L)) a row."""
    first, steps = level[0], level[1:]
    # At an infinite scale every code is the smallest level.
    a = (d * magnitude).sum(dim=1, keepdim=True) * first
    b = d.sum(dim=1, keepdim=True) * first**2
    if len(steps):
        middle = (level[1:] + level[:-1]) / 2
        events = (magnitude.unsqueeze(2) / middle).flatten(1)
        order = _descending(events)
        gain = ((d * magnitude).unsqueeze(2) * (steps - level[:-1])).flatten(1)
        size = (d.unsqueeze(2) * (steps**2 - level[:-1] ** 2)).flatten(1)
        a = torch.cat([a, gain.gather(1, order)], dim=1).cumsum_(dim=1)
        b = torch.cat([b, size.gather(1, order)], dim=1).cumsum_(dim=1)
    # Where b is 0, so is a.
    worth = a.square().div_(b.clamp_min(torch.finfo(b.dtype).tiny))
    best = worth.argmax(dim=1, keepdim=True)
    best_b = b.gather(1, best)
    return torch.where(best_b > 0, a.gather(1, best) / best_b, 0.0).squeeze(1)


def _descending(events: Tensor) -> Tensor:
    """Positions (R, K) of each row's values, the largest first.

    Of equal events any may come first: they happen at one scale, and the codes are read off at it.
    So the last bits of a value (12 for 4,096 of them, of 52) may hold its position, and plain
    integers are sorted, by NumPy in a tenth of the time that torch takes for an order.

    Args:
        events: At least 0, float64.
    """
    keys = np.invert(events.cpu().numpy().view(np.int64))
    positions = (1 << (keys.shape[1] - 1).bit_length()) - 1
    keys &= ~positions
    keys |= np.arange(keys.shape[1])
    keys.sort(axis=1)
    keys &= positions
    return torch.from_numpy(keys).to(events.device)


def _fit_sparse(magnitude: Tensor, d: Tensor, level: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    """Savings-sorted alternation: at a given scale the `kept` largest savings are the optimum."""
    best_codes = torch.zeros_like(magnitude)
    best_scale = torch.zeros_like(magnitude[:, 0])
    best_worth = torch.zeros_like(best_scale)
    shares = torch.linspace(0.3, 1.0, _RESTARTS, dtype=magnitude.dtype, device=magnitude.device)
    tops = level[level > 0][-_TOPS:].unsqueeze(1).unsqueeze(2)
    starts = (torch.quantile(magnitude, shares, dim=1) / tops).flatten(0, 1)
    for start in (_exact_scale(magnitude, d, level), *starts):
        codes = _sparse_codes(magnitude, d, level, start, kept)
        scale = _best_scale(magnitude, d, codes)
        for _ in range(_ALTERNATIONS):
            found = _sparse_codes(magnitude, d, level, scale, kept)
            if torch.equal(found, codes):
                break
            codes, scale = found, _best_scale(magnitude, d, found)
        worth = (d * codes * magnitude).sum(dim=1) * scale
        wins = worth > best_worth
        best_codes = torch.where(wins.unsqueeze(1), codes, best_codes)
        best_scale = torch.where(wins, scale, best_scale)
        best_worth = torch.maximum(worth, best_worth)
    return best_codes, best_scale


def _sparse_codes(magnitude: Tensor, d: Tensor, level: Tensor, scale: Tensor, kept: int) -> Tensor:
    codes = _nearest(magnitude, scale, level)
    values = codes * scale.unsqueeze(1)
    savings = d * values * (2 * magnitude - values)
    largest = savings.argsort(dim=1, descending=True, stable=True)[:, :kept]
    mask = torch.zeros_like(codes).scatter_(1, largest, 1.0)
    return codes * mask


def _nearest(magnitude: Tensor, scale: Tensor, level: Tensor) -> Tensor:
    """The nearest level of |w| / scale; halves go down, as an event at its own scale has not fired."""
    safe = torch.where(scale > 0, scale, 1.0).unsqueeze(1)
    middle = (level[1:] + level[:-1]) / 2
    return level[torch.bucketize((magnitude / safe).contiguous(), middle)]


def _best_scale(magnitude: Tensor, d: Tensor, codes: Tensor) -> Tensor:
    size = (d * codes * codes).sum(dim=1)
    return torch.where(size > 0, (d * codes * magnitude).sum(dim=1) / size, 0.0)


def _sign(w: Tensor) -> Tensor:
    return torch.where(w < 0, -1.0, 1.0).to(w.dtype)
