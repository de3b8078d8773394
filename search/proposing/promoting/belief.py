"""What the qualities of scored candidates are believed to be: score and prediction, weighed.

On a part of the search split every score is off by luck, and the best of many is the luckiest. The
posterior mean is not: candidates of like damage speak for one another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from paredown.search.config.qualities import quality_of
from paredown.search.proposing.damage_terms import DamageTerms, Terms
from paredown.search.proposing.outlook import Outlook
from paredown.search.proposing.pareto.memory import MOST
from paredown.search.proposing.pareto.surrogate import Surrogate
from paredown.search.study.evaluation import Evaluation, Goal
from paredown.search.study.pareto import non_dominated_rank


@dataclass(frozen=True)
class QualityModel:
    """What evaluations taught of one quality: `surrogate` over the terms `names`."""

    names: tuple[str, ...]
    surrogate: Surrogate

    def believed(self, terms: Sequence[Terms]) -> np.ndarray:
        """Posterior means (n,) of the quality lost by candidates of such terms."""
        return self.surrogate.predict(_matrix(terms, self.names))[0]

    def between(
        self, terms: Sequence[Terms], others: Sequence[Terms]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation (n,) of the quality that candidates of `terms` lose and `others` do not."""
        return self.surrogate.difference(_matrix(terms, self.names), _matrix(others, self.names))

    @property
    def slack(self) -> float:
        """How much of the quality may be lost to count: the unit of its losses."""
        return self.surrogate.slack


def quality_models(
    evaluations: Sequence[Evaluation], goals: Sequence[Goal], base: Evaluation, terms: DamageTerms
) -> dict[str, QualityModel]:
    """What `evaluations` teach of each quality among the goals, by metric; none without damage."""
    kept = _leading(evaluations, goals)
    seen = [terms.of(e.candidate) for e in kept]
    first = f"architecture:{base.candidate.architecture}"
    names = tuple(dict.fromkeys(name for each in seen for name in each if name != first))
    found: dict[str, QualityModel] = {}
    if not names:
        return found
    for goal in goals:
        if not goal.is_cost:
            slack = quality_of(goal.metric, goal.direction).slack(base.metrics[goal.metric])
            prior = Surrogate.prior([name.split(":")[0] for name in names], slack)
            learned = prior.learning(_matrix(seen, names), _lost(kept, goal, base))
            found[goal.metric] = QualityModel(names, learned)
    return found


def believed_values(
    evaluations: Sequence[Evaluation],
    goals: Sequence[Goal],
    base: Evaluation,
    terms: DamageTerms,
    models: Mapping[str, QualityModel],
    outlook: Outlook,
) -> np.ndarray:
    """The goals' values (n, d): costs as they are, qualities as `models` believe them to be.

    Qualities are those after the training that `outlook` expects.
    """
    values = np.array([[e.metrics[g.metric] for g in goals] for e in evaluations], dtype=float)
    values = values.reshape(len(evaluations), len(goals))
    seen = [terms.of(e.candidate) for e in evaluations]
    for column, goal in enumerate(goals):
        if goal.metric in models and seen:
            lost = models[goal.metric].believed(seen)
        elif outlook.left and seen and not goal.is_cost:
            lost = _lost(evaluations, goal, base)
        else:
            continue
        values[:, column] = _with_loss(goal, base, outlook.after(goal.metric, lost))
    return values


def _with_loss(goal: Goal, base: Evaluation, lost: np.ndarray) -> np.ndarray:
    """The metric's values where `lost` of it is lost against the uncompressed model."""
    sign = -1.0 if goal.direction == "maximize" else 1.0
    return base.metrics[goal.metric] + sign * lost


def _lost(evaluations: Sequence[Evaluation], goal: Goal, base: Evaluation) -> np.ndarray:
    origin = goal.loss(base.metrics[goal.metric])
    return np.array([goal.loss(e.metrics[goal.metric]) - origin for e in evaluations])


def _leading(evaluations: Sequence[Evaluation], goals: Sequence[Goal]) -> list[Evaluation]:
    """As many as a model rests on, those nearest to the front."""
    if len(evaluations) <= MOST:
        return list(evaluations)
    values = np.array([[e.metrics[g.metric] for g in goals] for e in evaluations], dtype=float)
    ranks = non_dominated_rank(values, [goal.direction for goal in goals])
    return [evaluations[i] for i in np.sort(np.argsort(ranks, kind="stable")[:MOST])]


def _matrix(terms: Sequence[Terms], names: Sequence[str]) -> np.ndarray:
    """Damages (n, p) by `names`; other terms count for nothing."""
    return np.array([[each.get(name, 0.0) for name in names] for each in terms], dtype=float)
