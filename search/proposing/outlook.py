"""What training will give back: quality lost after recovery, predicted from that lost before it.

Candidates are proposed and promoted for what they become. A search without recovery expects nothing back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from paredown.search.study.evaluation import Evaluation, Goal

_PRIOR_LEFT = 0.45
"""Share of the quality lost that is still lost after training, where nothing is known yet: 0.5 of two
points and 0.3 of thirteen on ResNet-20."""
_PRIOR_PAIRS = 3.0
"""Candidates before and after training that the prior counts as much as."""
_SPREAD = 0.5
"""Of single candidates around that share, as a share of it, where nothing is known yet."""


@dataclass(frozen=True)
class Outlook:
    """Shares of lost quality that training leaves, by the goals' metrics; 1 where nothing is trained.

    `spread` is the standard deviation of single candidates around the share.
    """

    left: Mapping[str, float] = field(default_factory=dict)
    spread: Mapping[str, float] = field(default_factory=dict)

    @property
    def at_best(self) -> Outlook:
        """What a candidate is left with that recovers better than five of six."""
        return Outlook({m: max(0.0, left - self.spread[m]) for m, left in self.left.items()})

    def after(self, metric: str, lost: np.ndarray) -> np.ndarray:
        """What of `lost` will still be lost; gains stay."""
        return np.where(lost > 0, lost * self.left.get(metric, 1.0), lost)

    def deviation(self, metric: str, before: np.ndarray) -> np.ndarray:
        """Standard deviation of `after`, where that of what is lost before training is `before`.

        Without the candidates' own spread: it grows with what is lost, so that even a hopeless candidate
        had some chance to recover whole, and its low cost would make that chance the best of all.
        """
        return before * self.left.get(metric, 1.0)


def outlook_of(
    evaluations: Sequence[Evaluation], goals: Sequence[Goal], base: Evaluation, is_trained: bool
) -> Outlook:
    """What the candidates that were trained so far teach of the others.

    The share is the least-squares slope through zero over pairs of one candidate before and after,
    drawn to the prior by a few pairs of typical size.

    Args:
        is_trained: Whether candidates will be trained at all.
    """
    if not is_trained:
        return Outlook()
    first = {e.key: e for e in evaluations if not (e.is_failed or e.rung.recipe.is_trained)}
    last = {e.key: e for e in evaluations if e.trained is not None and not e.is_failed}
    left, spread = {}, {}
    for goal in goals:
        if goal.is_cost:
            continue
        pairs = [(first[k], e) for k, e in last.items() if k in first]
        before = np.array([max(0.0, _lost(goal, a, base)) for a, _ in pairs])
        after = np.array([_lost(goal, b, base) for _, b in pairs])
        weight = _PRIOR_PAIRS * (float(np.mean(before**2)) if before.any() else 1.0)
        slope = float(_PRIOR_LEFT * weight + before @ after) / float(weight + before @ before)
        off = float(np.sum((after - slope * before) ** 2)) + weight * (_SPREAD * _PRIOR_LEFT) ** 2
        left[goal.metric] = min(1.0, max(0.0, slope))
        spread[goal.metric] = float(np.sqrt(off / float(weight + before @ before)))
    return Outlook(left, spread)


def _lost(goal: Goal, evaluation: Evaluation, base: Evaluation) -> float:
    return goal.loss(evaluation.metrics[goal.metric]) - goal.loss(base.metrics[goal.metric])
