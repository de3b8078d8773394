"""Which candidates lead a rung, by what is known and by what training is expected to make of them."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from paredown.search.config.qualities import quality_of
from paredown.search.proposing.damage_terms import DamageTerms
from paredown.search.proposing.improvement import expected_gain
from paredown.search.proposing.outlook import Outlook, pairs_of
from paredown.search.proposing.promoting.belief import (
    QualityModel,
    believed_values,
    quality_models,
)
from paredown.search.proposing.promoting.rivals import rivals_among, unbeaten
from paredown.search.study.evaluation import UNCOMPRESSED, Evaluation, Goal, reference
from paredown.search.study.pareto import non_dominated_rank, volume_axes

_NEGLIGIBLE = 0.05
"""Of a quality's margin: half a point of accuracy."""
_RIVAL_SHARE = 10
"""Of so many candidates promoted, one more for each reference is promoted for beating it."""


def leading(
    evaluations: Sequence[Evaluation],
    values: np.ndarray,
    goals: Sequence[Goal],
    count: int,
    taken: Collection[str] = (),
) -> list[Evaluation]:
    """At most `count` evaluations that together dominate most, greedily, then by rank and age.

    Greedy choice by hypervolume is within 1 - 1/e of the best subset (Guerreiro et al. 2016,
    doi:10.1162/EVCO_a_00188). The worst value of each goal is the reference, drawn out a little.

    Args:
        values: (n, d) of the goals, as they are believed to be; who breaks a bound is left out.
        taken: Keys of those among them that lead already, and which the others must add to.
    """
    met = np.array(
        [
            all(
                g.keeps_bounds({**e.metrics, g.metric: v}) for g, v in zip(goals, row, strict=True)
            )
            for e, row in zip(evaluations, values, strict=True)
        ],
        dtype=bool,
    )
    if not met.any():
        return []
    evaluations = [e for e, keep in zip(evaluations, met, strict=True) if keep]
    values = values[met]
    ranks = non_dominated_rank(values, [goal.direction for goal in goals])
    points = volume_axes(values, goals)
    reference = points.max(axis=0) + 0.1 * np.maximum(np.ptp(points, axis=0), 1e-9)
    order = sorted(range(len(points)), key=lambda i: (ranks[i], evaluations[i].number))
    chosen = [i for i, e in enumerate(evaluations) if e.key in taken]
    begun = len(chosen)
    while len(chosen) < min(begun + count, len(points)):
        gains = expected_gain(
            points[:, 0],
            np.zeros(len(points)),
            points[:, 1:],
            points[np.array(chosen, int)],
            reference,
        )
        best = int(np.argmax(gains))
        if gains[best] <= 1e-12:
            chosen += [i for i in order if i not in chosen][: begun + count - len(chosen)]
            break
        chosen.append(best)
    return [evaluations[i] for i in chosen[begun:]]


@dataclass(frozen=True)
class Promotion:
    """The successful evaluations of one rung, and who of them climbs.

    `prior` is what was expected of training before this search trained any.
    """

    first: Sequence[Evaluation]
    goals: tuple[Goal, ...]
    base: Evaluation
    terms: DamageTerms
    prior: Outlook = field(default_factory=Outlook)

    def outlook(self, after: Sequence[Evaluation] = ()) -> Outlook:
        """What training gives back at best, as far as those scored on the next rung show.

        At best, because a training is the way to find out.
        """
        return self.prior.learning(pairs_of([*self.first, *after], self.goals)).at_best

    @property
    def unharmed(self) -> frozenset[str]:
        """Keys of those that have nothing to recover from: scores that are off by luck alone."""
        goal = next((g for g in self.goals if not g.is_cost), None)
        if goal is None:
            return frozenset(e.key for e in self.first)
        whole = self.base.metrics[goal.metric]
        most = _NEGLIGIBLE * quality_of(goal.metric).slack(whole)
        lost = {e.key: goal.loss(e.metrics[goal.metric]) - goal.loss(whole) for e in self.first}
        return frozenset(key for key, each in lost.items() if each <= most)

    def leading(
        self, count: int, outlook: Outlook, left_out: Collection[str] = ()
    ) -> Collection[Evaluation]:
        """The references, what may beat them, and the `count` leading ones, but for keys `left_out`."""
        first, goals = self.first, self.goals
        if not first:
            return ()
        values = self._believed(outlook)
        left = [i for i, e in enumerate(first) if e.key not in left_out]
        first, values = [first[i] for i in left], values[left]
        promoted = {e.key: e for e in first if e.kind == "reference"}
        for each in unbeaten(first, goals, self.base.key):
            rivals = rivals_among(first, values, goals, each, count // _RIVAL_SHARE)
            promoted |= {e.key: e for e in rivals}
        promoted |= {e.key: e for e in leading(first, values, goals, count)}
        return promoted.values()

    def more(
        self,
        count: int,
        among: Collection[str],
        taken: Collection[str],
        after: Sequence[Evaluation],
    ) -> list[Evaluation]:
        """The `count` of those `among` by key that add most to those `taken`.

        What was scored on the next rung, `after`, is taken at what that score says against the
        uncompressed model's there; what was not, at what training is expected to make of it.
        """
        scores = {e.key: e.metrics for e in after if e.trained is not None}
        whole = reference(after, UNCOMPRESSED)
        values = self._believed(self.outlook(after))
        for row, each in zip(values, self.first, strict=True):
            if each.key in scores:
                row[:] = [
                    scores[each.key][goal.metric] + self._easier(goal, whole)
                    for goal in self.goals
                ]
        left = [i for i, e in enumerate(self.first) if e.key in among or e.key in taken]
        return leading([self.first[i] for i in left], values[left], self.goals, count, taken)

    def _easier(self, goal: Goal, there: Evaluation | None) -> float:
        """By how much the uncompressed model does better on this rung's rows than `there`."""
        if there is None or goal.is_cost:
            return 0.0
        return self.base.metrics[goal.metric] - there.metrics[goal.metric]

    def _believed(self, outlook: Outlook) -> np.ndarray:
        return believed_values(
            self.first, self.goals, self.base, self.terms, self._models, outlook
        )

    @functools.cached_property
    def _models(self) -> Mapping[str, QualityModel]:
        return quality_models(self.first, self.goals, self.base, self.terms)
