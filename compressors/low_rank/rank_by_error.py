"""The thinnest ranks of a low-rank form that lose no more than a given share of a layer's outputs.

An error is the share of the output energy tr(W G W^T) that `factorize` loses, the alternating fits
included. One eigendecomposition gives it exactly for "channel". For the other forms it is predicted,
for "tucker" as the sum of what each of its two ranks alone would lose. Predictions put in order what
could be tried, and few factorisations find where in that order the error is kept: each shows how far
the predictions are off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from paredown.compressors.low_rank.factorizing import (
    compose,
    discarded_energy,
    factorize,
    reading_energy,
)
from paredown.compressors.matrix.algebra import row_errors
from paredown.spaces.candidates.factors import chain_at, full_ranks, weights_at
from paredown.spaces.candidates.ranks import Decomposition

_Shape = tuple[int, ...]
_Ranks = tuple[int, ...]
_Energies = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Found:
    """Ranks of a form, as many as `full_ranks` has, and the share of the output energy they lose."""

    ranks: _Ranks
    lost: float


def thinnest_ranks(
    matrix: Tensor,
    gram: Tensor,
    shape: _Shape,
    form: Decomposition,
    errors: Sequence[float],
    step: int = 1,
) -> dict[float, Found | None]:
    """By error, the ranks of fewest weights that lose no more; None where none saves weights.

    For "tucker" only those pairs are tried that no thinner pair is predicted to beat.

    Args:
        matrix: The weight (R, K).
        gram: (K, K), as the solvers measure errors: centred where the layer has a bias.
        shape: Of the weight; it has the form.
        errors: Shares of the output energy, in (0, 1).
        step: Every rank is a multiple of it.
    """
    options = _Options(matrix, gram, shape, form, step)
    return {error: options.first_within(error) for error in sorted(errors)}


class _Options:
    """Ranks worth trying, by rising weights and falling predicted error, and what came of them."""

    def __init__(
        self, matrix: Tensor, gram: Tensor, shape: _Shape, form: Decomposition, step: int
    ) -> None:
        self._matrix, self._gram, self._shape, self._form = matrix, gram, shape, form
        self._energy = float(row_errors(matrix, gram).sum())
        tails = _predicted(matrix, gram, shape, form)
        if self._energy > 0:
            tails = tuple(tail / self._energy for tail in tails)
        self._ranks, self._predicted = _front(shape, form, tails, step)
        self._lost: dict[int, float] = {}
        if form == "channel" or self._energy <= 0:
            self._lost = dict(enumerate(self._predicted.tolist()))

    def first_within(self, error: float) -> Found | None:
        """The first option that loses no more than `error`, next to one that loses more."""
        within = {i for i, lost in self._lost.items() if lost <= error}
        end = min(within, default=len(self._ranks))
        start = max((i for i in self._lost if i < end), default=-1)
        was_within, stride = None, 1
        while end - start > 1:
            middle = self._guess(start, end, error)
            if was_within is not None:
                # Guesses that go on to one side are next to each other: strides that double pass by.
                middle = min(middle, end - stride) if was_within else max(middle, start + stride)
                middle = min(max(middle, start + 1), end - 1)
            is_within = self._lost_at(middle) <= error
            start, end = (start, middle) if is_within else (middle, end)
            stride = 2 * stride if is_within == was_within else 1
            was_within = is_within
        if end == len(self._ranks):
            return None
        return Found(ranks=self._ranks[end], lost=self._lost_at(end))

    def _guess(self, start: int, end: int, error: float) -> int:
        """The first option between these two that the predictions, put right by what is known, allow."""
        known = [i for i in (start, end) if i in self._lost and self._predicted[i] > 0]
        ratios = [self._lost[i] / self._predicted[i] for i in known] or [1.0]
        between = np.arange(start + 1, end)
        predicted = self._predicted[between] * np.interp(between, known or [start], ratios)
        allowed = np.flatnonzero(predicted <= error)
        return int(between[allowed[0] if len(allowed) else -1])

    def _lost_at(self, index: int) -> float:
        if index not in self._lost:
            chain = chain_at(self._form, self._shape, self._ranks[index])
            change = compose(factorize(self._matrix, self._gram, chain)) - self._matrix
            self._lost[index] = float(row_errors(change, self._gram).sum()) / self._energy
        return self._lost[index]


def _predicted(
    matrix: Tensor, gram: Tensor, shape: _Shape, form: Decomposition
) -> tuple[_Energies, ...]:
    """For each rank of the form, the output energy that it alone would lose at 0, 1, ... of it."""
    inputs, *kernel = shape[1:]
    if form == "spatial":
        return (_array(reading_energy(matrix, gram, inputs * kernel[0])),)
    written = _array(discarded_energy(matrix, gram))
    if form == "channel":
        return (written,)
    return _array(reading_energy(matrix, gram, inputs)), written


def _array(energies: Tensor) -> _Energies:
    found: _Energies = energies.double().numpy()
    return found


def _front(
    shape: _Shape, form: Decomposition, tails: Sequence[_Energies], step: int
) -> tuple[tuple[_Ranks, ...], _Energies]:
    """Ranks that save weights, by rising weights, each with less predicted error than all before.

    Of two ranks the second may be full: a chain that reads fewer channels is thinner all the same.
    """
    fulls = full_ranks(form, shape)
    tops = (fulls[0] - 1, *fulls[1:])
    grids = np.meshgrid(*(np.arange(step, top + 1, step) for top in tops), indexing="ij")
    ranks = np.stack([grid.ravel() for grid in grids])
    weights = weights_at(form, shape, *ranks)
    error = np.sum([tail[each] for tail, each in zip(tails, ranks, strict=True)], axis=0)
    order = np.lexsort((error, weights))
    order = order[_is_thinner(shape, ranks, weights)[order]]
    lowest = np.minimum.accumulate(np.append(np.inf, error[order]))[:-1]
    kept = order[error[order] < lowest]
    return tuple(tuple(each) for each in ranks[:, kept].T.tolist()), error[kept]


def _is_thinner(
    shape: _Shape, ranks: NDArray[np.int64], weights: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which ranks save weights, and write no more channels than a kernel can make of those it reads."""
    saves: NDArray[np.bool_] = weights < math.prod(shape)
    return saves if len(ranks) == 1 else saves & (ranks[1] <= ranks[0] * math.prod(shape[2:]))
