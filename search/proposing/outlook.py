"""What training will give back: quality lost after recovery, predicted from that lost before it.

Candidates are proposed and promoted for what they become. A search without recovery expects nothing back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from paredown.search.study.evaluation import UNCOMPRESSED, Evaluation, Goal, comparable, reference

_LEFT = 0.45
"""Share of the quality lost that is still lost after training, where nothing is known yet: 0.5 of two
points and 0.3 of thirteen on ResNet-20."""
_LEFT_FURTHER = 0.65
"""The same of training further: 0.8 and 0.5 of one point on ResNet-20, from 200 steps to 2,200."""
_PRIOR_PAIRS = 3.0
"""Candidates before and after training that what was known before them counts as much as."""
_SPREAD = 0.5
"""Of single candidates around that share, as a share of it, where nothing is known yet."""
_DEVIATIONS = 1.2816
"""Half the width of an interval that holds 80 % of a normal distribution."""


@dataclass(frozen=True)
class Pair:
    """Quality that one candidate had lost before its training, above 0, and after the first rung of it.

    Each against the uncompressed model of its run on the same rows: pairs of several runs compare.
    """

    key: str
    before: float
    after: float


Pairs = Mapping[str, Sequence[Pair]]
"""By metric, in the order in which the candidates were trained."""


@dataclass(frozen=True)
class Outlook:
    """Shares of lost quality that training leaves, by the goals' metrics; 1 where nothing is trained.

    `spread` is the standard deviation of single candidates around the share.
    """

    left: Mapping[str, float] = field(default_factory=dict)
    spread: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of_training(cls, goals: Sequence[Goal]) -> Outlook:
        """What is expected of training where nothing is known yet."""
        qualities = [goal.metric for goal in goals if not goal.is_cost]
        return cls(dict.fromkeys(qualities, _LEFT), dict.fromkeys(qualities, _SPREAD * _LEFT))

    @classmethod
    def of_training_further(cls, goals: Sequence[Goal]) -> Outlook:
        """What is expected of a rung of training that goes on from another."""
        first, share = cls.of_training(goals), _LEFT_FURTHER / _LEFT
        left, spread = ({m: share * x for m, x in y.items()} for y in (first.left, first.spread))
        return cls(left, spread)

    def learning(self, pairs: Pairs) -> Outlook:
        """This outlook, corrected by what came of candidates that were trained.

        The share is the least-squares slope through zero, drawn to the share so far by a few pairs of
        typical size.
        """
        left, spread = dict(self.left), dict(self.spread)
        for metric in left:
            if not pairs.get(metric):
                continue
            before = np.array([pair.before for pair in pairs[metric]])
            after = np.array([pair.after for pair in pairs[metric]])
            weight = _PRIOR_PAIRS * float(np.mean(before**2))
            total = float(weight + before @ before)
            slope = (left[metric] * weight + float(before @ after)) / total
            off = float(np.sum((after - slope * before) ** 2)) + weight * spread[metric] ** 2
            left[metric] = min(1.0, max(0.0, slope))
            spread[metric] = float(np.sqrt(off / total))
        return Outlook(left, spread)

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


@dataclass(frozen=True)
class Forecast:
    """What one candidate was expected to have lost after its training, and what it had.

    Outcomes lie between `low` and `high` with a probability of 80 %, as far as is known.
    """

    key: str
    expected: float
    low: float
    high: float
    became: float

    @property
    def holds(self) -> bool:
        """Whether the outcome lies within the interval."""
        return self.low <= self.became <= self.high

    @property
    def error(self) -> float:
        """How far the outcome is from what was expected; above 0 where more was lost."""
        return self.became - self.expected


def forecasts(prior: Outlook, pairs: Pairs) -> dict[str, list[Forecast]]:
    """By metric what was to be expected of each candidate by `prior` and those trained before it."""
    found: dict[str, list[Forecast]] = {}
    for metric in prior.left:
        found[metric] = []
        for i, pair in enumerate(pairs[metric]):
            outlook = prior.learning({metric: pairs[metric][:i]})
            expected = pair.before * outlook.left[metric]
            off = _DEVIATIONS * pair.before * outlook.spread[metric]
            found[metric].append(
                Forecast(pair.key, expected, expected - off, expected + off, pair.after)
            )
    return found


def pairs_of(evaluations: Sequence[Evaluation], goals: Sequence[Goal]) -> dict[str, list[Pair]]:
    """What became of the trained candidates of one run, by each quality among the goals.

    What had lost nothing has nothing to recover from and is left out.
    """
    scored = [e for e in evaluations if not e.is_failed]
    first = {e.key: e for e in scored if not e.rung.recipe.is_trained}
    trained: dict[str, Evaluation] = {}
    for evaluation in scored:
        if evaluation.trained is not None and evaluation.key in first:
            trained.setdefault(evaluation.key, evaluation)
    found: dict[str, list[Pair]] = {goal.metric: [] for goal in goals if not goal.is_cost}
    for key, evaluation in trained.items():
        for goal in goals:
            if not goal.is_cost:
                before = _lost(goal, first[key], scored)
                if before > 0:
                    after = _lost(goal, evaluation, scored)
                    found[goal.metric].append(Pair(key, before, after))
    return found


def _lost(goal: Goal, evaluation: Evaluation, scored: Sequence[Evaluation]) -> float:
    """Against the uncompressed model on the same rows; until it was scored there, on the first ones."""
    base = reference(comparable(scored, evaluation.rung), UNCOMPRESSED)
    base = base or next(e for e in scored if e.label == UNCOMPRESSED)
    return goal.loss(evaluation.metrics[goal.metric]) - goal.loss(base.metrics[goal.metric])
