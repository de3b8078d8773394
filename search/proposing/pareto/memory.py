"""The evaluated candidates that predictions rest on: those that matter for the front, and the latest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paredown.search.proposing.pareto.tables import Array, Codes

MOST, LATEST = 256, 64
"""Candidates that are kept, and how many of them are the latest."""


@dataclass(frozen=True)
class Memory:
    """Candidates as they came: codes (n, k), losses (n, q) of qualities, costs (n, c), logarithms."""

    codes: Codes
    lost: Array
    costs: Array

    @classmethod
    def empty(cls, choices: int, qualities: int, costs: int) -> Memory:
        """Nothing yet."""
        shapes = (0, choices), (0, qualities), (0, costs)
        codes, lost, paid = (np.zeros(shape) for shape in shapes)
        return cls(codes.astype(np.int64), lost, paid)

    def __len__(self) -> int:
        return len(self.codes)

    def with_one(self, codes: Codes, lost: Array, costs: Array) -> Memory:
        """One candidate more: codes (k,), losses (q,), costs (c,).

        Beyond `MOST`, of those that are not among the latest the one is forgotten that lost most
        against the best of no higher costs.
        """
        grown = Memory(
            np.vstack([self.codes, codes]),
            np.vstack([self.lost, lost]),
            np.vstack([self.costs, costs]),
        )
        if len(grown) <= MOST:
            return grown
        worst = int(np.argmax(grown._regrets()[:-LATEST]))
        kept = np.arange(len(grown)) != worst
        return Memory(grown.codes[kept], grown.lost[kept], grown.costs[kept])

    def _regrets(self) -> Array:
        """How much more (n,) of the first quality each lost than the best of no higher costs."""
        cheaper = (self.costs[None] <= self.costs[:, None]).all(axis=2)
        best = np.where(cheaper, self.lost[None, :, 0], np.inf).min(axis=1)
        return np.asarray(self.lost[:, 0] - best)
