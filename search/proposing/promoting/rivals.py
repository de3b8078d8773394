"""Rivals of the references: candidates that cost no more in any goal, least harmful as predicted.

A search is held against the uniform bit-widths. What beats one of them by little gains next to no
hypervolume, so that it is scored again for its own sake.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paredown.search.study.evaluation import Evaluation, Goal
from paredown.search.study.pareto import non_dominated


def unbeaten(told: Sequence[Evaluation], goals: Sequence[Goal], base: str) -> list[Evaluation]:
    """References other than the uncompressed model, whose key is `base`, that nothing told beats."""
    values = np.array([[e.metrics[g.metric] for g in goals] for e in told], dtype=float)
    leads = non_dominated(values.reshape(len(told), len(goals)), [g.direction for g in goals])
    return [
        e
        for e, leading in zip(told, leads, strict=True)
        if leading and e.kind == "reference" and e.key != base
    ]


def rivals_among(
    evaluations: Sequence[Evaluation],
    values: np.ndarray,
    goals: Sequence[Goal],
    reference: Evaluation,
    count: int,
) -> list[Evaluation]:
    """At most `count` evaluations that cost no more than `reference` in any goal, the best first.

    Who is not believed to keep the bound on quality is left out.

    Args:
        values: (n, d) of the goals, as they are believed to be; the first quality is what ranks.
    """
    costs = [i for i, goal in enumerate(goals) if goal.is_cost]
    quality = next((i for i, goal in enumerate(goals) if not goal.is_cost), None)
    if quality is None:
        return []
    limits = np.array([reference.metrics[goals[i].metric] for i in costs])
    losses = [goals[quality].loss(value) for value in values[:, quality]]
    found = [
        i
        for i, e in enumerate(evaluations)
        if e.key != reference.key
        and goals[quality].is_met(values[i, quality])
        and (values[i, costs] <= limits).all()
    ]
    return [evaluations[i] for i in sorted(found, key=lambda i: losses[i])[:count]]
