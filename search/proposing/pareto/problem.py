"""What is known of a search before anything is evaluated: its choices, exact costs, predicted damages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from paredown.search.proposing.pareto.tables import Array, Codes

Population = Callable[[Codes], Array]
"""From codes (n, k), positions in the domains of all choices, to values (n, d)."""


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Discrete choices by name: how many values each has, and whether their order means something."""

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    ordered: tuple[bool, ...]

    @property
    def count(self) -> int:
        """How many choices there are."""
        return len(self.names)


@dataclass(frozen=True, kw_only=True)
class Prices:
    """Costs (n, c) of populations, NaN for what has none.

    `quick` prices ten thousands at once and may be off by a little, `exact` a few that were picked; by
    default the quick ones are exact. Behind the goals' costs may stand others (n, b), such as upper ends
    of intervals, that `limits` (b,) bound.
    """

    quick: Population
    exact: Population | None = None
    limits: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Damage:
    """Predicted damages of the decisions of candidates.

    Attributes:
        terms: From codes (n, k) to damages (n, p): 0 where a decision harms nothing, never below. They
            need only be right in rank within a kind: what a kind costs is learned.
        kinds: The kind of decision (p,) of each column, such as "layer", "width", "drop".
    """

    terms: Population
    kinds: tuple[str, ...]


def positions(choices: Choices) -> Damage:
    """Damages where nothing is known: how far an ordered choice stands from its first value, and of any
    other choice one column for each value but the first."""
    columns: list[tuple[int, int | None]] = []
    for i, (size, ordered) in enumerate(zip(choices.sizes, choices.ordered, strict=True)):
        columns += [(i, None)] if ordered else [(i, value) for value in range(1, size)]

    def _terms(codes: Codes) -> Array:
        found = np.zeros((len(codes), len(columns)))
        for place, (i, value) in enumerate(columns):
            column = codes[:, i]
            share = column / max(1, choices.sizes[i] - 1) if value is None else column == value
            found[:, place] = share / choices.count
        return found

    return Damage(terms=_terms, kinds=("choice",) * len(columns))
