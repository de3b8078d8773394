"""The expected gain in hypervolume of candidates whose costs are known and whose quality is not."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Array = NDArray[np.float64]


def expected_gain(
    mean: Array,
    deviation: Array,
    costs: Array,
    front: Array,
    reference: Array,
    best: float = -np.inf,
) -> Array:
    """Expected hypervolume improvement (n,) where the first coordinate alone is uncertain, normal.

    The gain at quality q is the integral from q to the reference of the volume in cost space that a
    candidate adds to the front's members of better quality: a step function of q, so that the
    expectation is a finite sum. Exact, unlike the general one (Emmerich et al. 2006,
    doi:10.1109/TEVC.2005.859463), because costs need no evaluation.

    Args:
        mean, deviation: (n,) of the quality; smaller is better in every coordinate.
        costs: (n, d) exact.
        front: (m, 1 + d): quality and costs of what is there, dominated rows allowed.
        reference: (1 + d,) the worst point that counts.
        best: A better quality counts as this one.
    """
    inside = front[(front < reference).all(axis=1)]
    inside = np.column_stack([np.maximum(inside[:, 0], best), inside[:, 1:]])
    inside = inside[np.argsort(inside[:, 0], kind="stable")]
    starts = inside[:, 0]
    bounds = np.append(starts, reference[0])
    deviation = np.maximum(deviation, 1e-12)
    below = _mass_below(bounds[:, None], mean, deviation)
    if best > -np.inf:
        below = below - _mass_below(np.array([[best]]), mean, deviation)
    # Slab 0 lies before the best member; in slab k the first k members count.
    lengths = np.diff(below, axis=0, prepend=0.0)
    gains = np.zeros(len(mean))
    for k, length in enumerate(lengths):
        wanted = length > 1e-12
        gains[wanted] += length[wanted] * _added_volume(
            costs[wanted], inside[:k, 1:], reference[1:]
        )
    return gains


def _mass_below(bound: Array, mean: Array, deviation: Array) -> Array:
    """E max(0, bound - q) of normal q."""
    z = (bound - mean) / deviation
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    return np.asarray((bound - mean) * ndtr(z) + deviation * density)


def _added_volume(costs: Array, members: Array, reference: Array) -> Array:
    """Volume (n,) that each row of `costs` (n, d) dominates and no row of `members` (m, d) does."""
    own = np.prod(np.maximum(reference - costs, 0.0), axis=1)
    if not len(members):
        return np.asarray(own)
    if not costs.shape[1]:
        return np.zeros(len(costs))
    lower, upper = _boxes(members, reference)
    shared = np.ones((len(costs), len(lower)))
    for low, high, paid in zip(lower.T, upper.T, costs.T, strict=True):
        shared *= np.maximum(high - np.maximum(low, paid[:, None]), 0.0)
    return np.maximum(own - shared.sum(axis=1), 0.0)


def _boxes(members: Array, reference: Array) -> tuple[Array, Array]:
    """Lower and upper corners (b, d) of boxes side by side that fill what `members` (m, d) dominate."""
    members = _undominated(members)
    if members.shape[1] == 1:
        return members[:1], reference[None]
    if members.shape[1] == 2:
        # The first coordinates rise while the second fall.
        ends = np.append(reference[1], members[:-1, 1])
        return members, np.column_stack([np.full(len(members), reference[0]), ends])
    members = members[np.argsort(members[:, -1], kind="stable")]
    corners: tuple[list[Array], list[Array]] = ([], [])
    for count, (start, end) in enumerate(pairwise(np.append(members[:, -1], reference[-1])), 1):
        if end > start:
            flat = _boxes(members[:count, :-1], reference[:-1])
            for found, sides, edge in zip(corners, flat, (start, end), strict=True):
                found.append(np.column_stack([sides, np.full(len(sides), edge)]))
    return np.vstack(corners[0]), np.vstack(corners[1])


def _undominated(points: Array) -> Array:
    """Rows that no other beats, each once, ordered by the first coordinate."""
    unique = np.unique(points, axis=0)
    no_worse = (unique[:, None] <= unique[None]).all(axis=2)
    no_worse &= ~np.eye(len(unique), dtype=bool)
    return unique[~no_worse.any(axis=0)]
