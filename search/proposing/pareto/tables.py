"""Functions of many choices, looked up: what depends on few choices at a time is tabulated once.

A cost such as the bytes of a file is a sum of parts, and each part sees a few choices: a layer's own,
those of its neighbours. Nobody needs to know the parts. Let `cliques` be sets of choices that may act
together. Then, with every choice outside a set R at the base,

    f(x) = sum over R of count(R) * f(x on R, base elsewhere),

over the cliques and all their intersections, where a set's count is 1 less the counts of the sets that
hold it (the counting numbers of Kikuchi's method: Yedidia, Freeman, Weiss 2005,
doi:10.1109/TIT.2005.850085).
That is exact where f is such a sum, and each term is one value of f itself.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
"""Positions (n, k) in the domains of k choices."""

_LARGEST = 2**16
"""Settings above which a set of choices is no table: it is taken apart into pairs."""


class Lookups:
    """Tables of sets of choices, each entry made when first needed.

    Args:
        sizes: How many values each of the k choices has.
        columns: The choices of each table.
        entry: From the number of a table and the codes (k,), all others at 0, to what stands there.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        columns: Sequence[Sequence[int]],
        entry: Callable[[int, Codes], Array | float],
        width: int = 1,
    ) -> None:
        self._entry = entry
        self._columns = [np.array(each, np.int64) for each in columns]
        self._radix = np.zeros((len(sizes), len(columns)))
        counts = []
        for number, each in enumerate(columns):
            steps = np.cumprod([1, *(sizes[i] for i in each)])
            self._radix[list(each), number] = steps[:-1]
            counts.append(int(steps[-1]))
        self._offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)[:-1]
        self._values = np.zeros((sum(counts), width))
        self._known = np.zeros(sum(counts), bool)

    def __len__(self) -> int:
        return len(self._columns)

    def __call__(self, codes: Codes) -> Array:
        """What stands in every table (n, tables, width) at these codes (n, k)."""
        places = self._places(codes)
        rows, tables = np.nonzero(~self._known[places])
        if len(rows):
            _, first = np.unique(places[rows, tables], return_index=True)
            for row, table in zip(rows[first], tables[first], strict=True):
                self._learn(int(table), codes[row], int(places[row, table]))
        return np.asarray(self._values[places])

    def _places(self, codes: Codes) -> Codes:
        # Products of small integers are exact in float64, and far faster there.
        numbers = codes.astype(np.float64) @ self._radix
        return np.asarray(numbers.astype(np.int64) + self._offsets)

    def _learn(self, table: int, codes: Codes, place: int) -> None:
        alone = np.zeros_like(codes)
        alone[self._columns[table]] = codes[self._columns[table]]
        self._values[place] = self._entry(table, alone)
        self._known[place] = True


class Tabulated:
    """A function of codes (k,) with values (d,) for whole populations.

    Exact where it is a sum of functions of the `cliques`. `inexactness` measures how far it is not.
    """

    def __init__(
        self,
        function: Callable[[Codes], Array],
        sizes: Sequence[int],
        cliques: Iterable[Iterable[int]],
        width: int,
    ) -> None:
        self._function = function
        self._sizes = tuple(sizes)
        counted = counting_numbers(_small_enough(cliques, sizes))
        self._counts = np.array(list(counted.values()), dtype=float)
        self._seen: dict[bytes, Array] = {}
        self._lookups = Lookups(sizes, [sorted(s) for s in counted], self._at, width)

    def __call__(self, codes: Codes) -> Array:
        """Values (n, d)."""
        return np.einsum("nrd,r->nd", self._lookups(codes), self._counts)

    def exact(self, codes: Codes) -> Array:
        """Values (n, d) from the function itself, each row computed once."""
        return np.array([self._at(0, row) for row in codes])

    def _at(self, _: int, codes: Codes) -> Array:
        key = codes.tobytes()
        if key not in self._seen:
            self._seen[key] = self._function(codes)
        return self._seen[key]


def counting_numbers(cliques: Iterable[frozenset[int]]) -> dict[frozenset[int], int]:
    """The sets of the sum and their counts, those with a count of 0 left out.

    >>> counts = counting_numbers([frozenset({0, 1}), frozenset({1, 2})])
    >>> counts == {frozenset({0, 1}): 1, frozenset({1, 2}): 1, frozenset({1}): -1}
    True
    """
    given = set(cliques)
    largest = {c for c in given if not any(c < other for other in given)} or {frozenset()}
    regions = set(largest)
    fresh = set(largest)
    while fresh:
        met = {a & b for a in fresh for b in regions}
        fresh = met - regions
        regions |= fresh
    counts: dict[frozenset[int], int] = {}
    for region in sorted(regions, key=lambda r: (-len(r), sorted(r))):
        counts[region] = 1 - sum(count for other, count in counts.items() if region < other)
    return {region: count for region, count in counts.items() if count}


def _small_enough(cliques: Iterable[Iterable[int]], sizes: Sequence[int]) -> list[frozenset[int]]:
    found: list[frozenset[int]] = []
    for clique in map(frozenset, cliques):
        if math.prod(sizes[i] for i in clique) <= _LARGEST:
            found.append(clique)
        else:
            found += [frozenset(pair) for pair in itertools.combinations(sorted(clique), 2)]
    # A choice that is in no clique acts alone.
    return found + [frozenset({i}) for i in range(len(sizes))]
