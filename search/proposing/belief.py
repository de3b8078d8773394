"""What the qualities of scored candidates are believed to be: score and prediction, weighed.

On a part of the search split every score is off by luck, and the best of many is the luckiest. The
posterior mean is not: candidates of like damage speak for one another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from paredown.search.proposing.outlook import Outlook
from paredown.search.proposing.prediction import DamageTerms, QualityModel, fit_quality
from paredown.search.study.evaluation import Evaluation, Goal


def quality_models(
    evaluations: Sequence[Evaluation], goals: Sequence[Goal], base: Evaluation, terms: DamageTerms
) -> dict[str, QualityModel]:
    """What `evaluations` teach of each quality among the goals, by metric; none without damage."""
    seen = [terms.of(e.candidate) for e in evaluations]
    found = {}
    for goal in goals:
        if not goal.is_cost:
            model = fit_quality(seen, _lost(evaluations, goal, base), base.candidate.architecture)
            if model is not None:
                found[goal.metric] = model
    return found


def believed_values(
    evaluations: Sequence[Evaluation],
    goals: Sequence[Goal],
    base: Evaluation,
    terms: DamageTerms,
    models: Mapping[str, QualityModel],
    outlook: Outlook,
) -> np.ndarray:
    """The goals' values (n, d): costs as they are, qualities weighed with what `models` predict.

    Qualities are those after the training that `outlook` expects.
    """
    values = np.array([[e.metrics[g.metric] for g in goals] for e in evaluations], dtype=float)
    values = values.reshape(len(evaluations), len(goals))
    seen = [terms.of(e.candidate) for e in evaluations]
    for column, goal in enumerate(goals):
        if goal.metric in models and seen:
            lost = models[goal.metric].weigh(seen, _lost(evaluations, goal, base))
        elif outlook.left and seen and not goal.is_cost:
            lost = _lost(evaluations, goal, base)
        else:
            continue
        values[:, column] = with_loss(goal, base, outlook.after(goal.metric, lost))
    return values


def with_loss(goal: Goal, base: Evaluation, lost: np.ndarray) -> np.ndarray:
    """The metric's values where `lost` of it is lost against the uncompressed model."""
    sign = -1.0 if goal.direction == "maximize" else 1.0
    return base.metrics[goal.metric] + sign * lost


def _lost(evaluations: Sequence[Evaluation], goal: Goal, base: Evaluation) -> np.ndarray:
    origin = goal.loss(base.metrics[goal.metric])
    return np.array([goal.loss(e.metrics[goal.metric]) - origin for e in evaluations])
