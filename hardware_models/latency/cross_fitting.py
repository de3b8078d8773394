"""Errors of a fit on networks it has not seen: five folds, the reference network in all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Predict = Callable[[Array, Array, Array], Array]
"""From fitted rows, their times and held-out rows to predicted seconds."""

FOLDS = 5
_FEWEST_FOR_FOLDS = 20
"""Below, every network is held out alone."""


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Errors measured / predicted - 1 of networks that the fit had not seen.

    `networks` are their positions: all but the reference. `ratio` is of latencies over that of the
    reference, as measured and as that very fit predicts it; None without one.
    """

    networks: NDArray[np.int64]
    seconds: Array
    ratio: Array | None

    @property
    def mape(self) -> float:
        """Mean absolute relative error of the latencies in seconds, as a fraction."""
        return float(np.abs(self.seconds).mean())


def folds_of(count: int, groups: Sequence[int] | None = None) -> NDArray[np.int64]:
    """The fold of each of `count` networks; a group of networks is held out whole."""
    if groups is not None:
        _, number = np.unique(np.asarray(groups), return_inverse=True)
        return np.asarray(number % FOLDS, np.int64)
    return np.arange(count) % (FOLDS if count >= _FEWEST_FOR_FOLDS else count)


def held_out_errors(rows: Array, times_s: Array, predict: Predict) -> Array:
    """measured / predicted - 1 of every network, predicted without its fold."""
    return cross_fit(rows, times_s, predict, folds_of(len(times_s))).seconds


def cross_fit(
    rows: Array,
    times_s: Array,
    predict: Predict,
    fold: NDArray[np.int64],
    is_reference: NDArray[np.bool_] | None = None,
    again_s: Array | None = None,
) -> HeldOut:
    """Errors of every network but the reference, predicted without its fold.

    A search knows the uncompressed network as its fit does, measured and fitted to; so each fold
    is fitted to it too. Choices that a fit makes by its own cross-validation belong into
    `predict`, or the errors look better than those of new networks.

    Args:
        is_reference: Which rows (networks,) are the reference, measured more than once maybe.
        again_s: The same networks' times, measured another time: errors are of these, so that they
            hold what measuring itself leaves open. By default of those that are fitted to.
    """
    is_reference = np.zeros(len(times_s), bool) if is_reference is None else is_reference
    judged_s = times_s if again_s is None else again_s
    reference_s = judged_s[is_reference].mean() if is_reference.any() else np.nan
    seconds, ratio = np.full((2, len(times_s)), np.nan)
    for held in np.unique(fold[~is_reference]):
        out = (fold == held) & ~is_reference
        asked = np.vstack([rows[out], rows[is_reference][:1]])
        predicted = predict(rows[~out], times_s[~out], asked)
        count = int(out.sum())
        seconds[out] = judged_s[out] / predicted[:count] - 1
        if is_reference.any():
            over = judged_s[out] / reference_s
            ratio[out] = over / (predicted[:count] / predicted[count]) - 1
    networks = np.flatnonzero(~is_reference)
    return HeldOut(
        networks=networks,
        seconds=seconds[networks],
        ratio=ratio[networks] if is_reference.any() else None,
    )
