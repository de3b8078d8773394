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
    found = np.unique(start, axis=0)
    worths = worth(found)
    for _ in range(generations):
        order = np.argsort(-worths, kind="stable")[:_KEPT]
        found, worths = found[order], worths[order]
        children = _children(choices, found, generator)
        found, first = np.unique(np.vstack([found, children]), axis=0, return_index=True)
        worths = np.concatenate([worths, worth(children)])[first]
    order = np.argsort(-worths, kind="stable")
    return found[order], worths[order]


def _children(choices: Choices, parents: Codes, generator: np.random.Generator) -> Codes:
    """Children of sorted parents, of which the first have more."""
    ranks = (len(parents) * generator.random(_CHILDREN) ** 2).astype(np.int64)
    chosen = parents[ranks]
    two = _CHILDREN // _CROSSED
    crossed = _crossed(chosen[:two], generator)
    return np.unique(_changed(choices, np.vstack([crossed, chosen[two:]]), generator), axis=0)


def _crossed(parents: Codes, generator: np.random.Generator) -> Codes:
    """Children (n, k) that take every choice from one parent or from another."""
    others = parents[generator.permutation(len(parents))]
    share = generator.random((len(parents), 1))
    return np.where(generator.random(parents.shape) < share, parents, others)


def _changed(choices: Choices, parents: Codes, generator: np.random.Generator) -> Codes:
    """Parents (n, k) with some choices set anew, few more often than many.

    An ordered choice takes a neighbouring value half of the time.
    """
    shape, sizes = parents.shape, np.array(choices.sizes)
    wanted = np.minimum(generator.geometric(0.5, shape[0]), _MOST_CHANGES)
    places = generator.random(shape).argsort(axis=1).argsort(axis=1)
    anywhere = generator.integers(0, sizes, shape)
    beside = np.clip(parents + generator.choice([-1, 1], shape), 0, sizes - 1)
    steps = np.array(choices.ordered) & (generator.random(shape) < 0.5)
    return np.where(places < wanted[:, None], np.where(steps, beside, anywhere), parents)
