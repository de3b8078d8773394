"""The candidates of a discrete space that promise most: evolution on predictions alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from paredown.search.proposing.pareto.problem import Choices
from paredown.search.proposing.pareto.tables import Array, Codes

_KEPT, _CHILDREN = 96, 384
"""Candidates that survive a generation, and their children."""
_CROSSED = 3
"""Of so many children one has two parents."""
_MOST_CHANGES = 8


def explore(
    choices: Choices,
    start: Codes,
    worth: Callable[[Codes], Array],
    generator: np.random.Generator,
    generations: int,
) -> tuple[Codes, Array]:
    """What was found: codes (m, k), those of most worth first, and their worths (m,).

    Args:
        start: (n, k) to begin from: fronts, uniform settings, what was found before.
        worth: From codes (n, k) to what each is worth (n,); larger is better.
    """
    found = start[_distinct(start)]
    worths = worth(found)
    for _ in range(generations):
        order = np.argsort(-worths, kind="stable")[:_KEPT]
        found, worths = found[order], worths[order]
        children = _children(choices, found, generator)
        found = np.vstack([found, children])
        first = _distinct(found)
        found, worths = found[first], np.concatenate([worths, worth(children)])[first]
    order = np.argsort(-worths, kind="stable")
    return found[order], worths[order]


def _children(choices: Choices, parents: Codes, generator: np.random.Generator) -> Codes:
    """Children of sorted parents, of which the first have more."""
    ranks = (len(parents) * generator.random(_CHILDREN) ** 2).astype(np.int64)
    chosen = parents[ranks]
    two = _CHILDREN // _CROSSED
    crossed = _crossed(chosen[:two], generator)
    return _changed(choices, np.vstack([crossed, chosen[two:]]), generator)


def _distinct(codes: Codes) -> Codes:
    """Where each distinct row first stands. Rows are compared by a product with large odd numbers, which
    differs for different ones as surely as a 64-bit hash."""
    factors = np.random.default_rng(0).integers(1, 2**62, codes.shape[1]) * 2 + 1
    return np.asarray(np.unique(codes @ factors, return_index=True)[1])


def _crossed(parents: Codes, generator: np.random.Generator) -> Codes:
    """Children (n, k) that take every choice from one parent or from another."""
    others = parents[generator.permutation(len(parents))]
    share = generator.random((len(parents), 1))
    return np.where(generator.random(parents.shape) < share, parents, others)


def _changed(choices: Choices, parents: Codes, generator: np.random.Generator) -> Codes:
    """Parents (n, k) with some choices set anew, few more often than many.

    An ordered choice takes a neighbouring value half of the time.
    """
    (count, width), sizes = parents.shape, np.array(choices.sizes)
    wanted = np.minimum(generator.geometric(0.5, count), _MOST_CHANGES)
    hit = generator.random(parents.shape) < (wanted[:, None] - 1) / width
    hit[np.arange(count), generator.integers(0, width, count)] = True
    rows, columns = np.nonzero(hit)
    now, size = parents[rows, columns], sizes[columns]
    beside = np.clip(now + generator.choice([-1, 1], len(rows)), 0, size - 1)
    steps = np.array(choices.ordered)[columns] & (generator.random(len(rows)) < 0.5)
    children = parents.copy()
    children[rows, columns] = np.where(steps, beside, generator.integers(0, size))
    return children
