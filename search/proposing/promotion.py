"""Which candidates of the first rung are scored again on the whole search split."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paredown.search.proposing.improvement import expected_gain
from paredown.search.study.evaluation import Evaluation, Goal
from paredown.search.study.pareto import non_dominated_rank, volume_axes


def leading(
    evaluations: Sequence[Evaluation], values: np.ndarray, goals: Sequence[Goal], count: int
) -> list[Evaluation]:
    """At most `count` evaluations that together dominate most, greedily, then by rank and age.

    Greedy choice by hypervolume is within 1 - 1/e of the best subset (Guerreiro et al. 2016,
    doi:10.1162/EVCO_a_00188). The worst value of each goal is the reference, drawn out a little.

    Args:
        values: (n, d) of the goals, as they are believed to be; who breaks a bound is left out.
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
    evaluations = [e for e, keep in zip(evaluations, met, strict=True) if keep]
    if not evaluations:
        return []
    values = values[met]
    ranks = non_dominated_rank(values, [goal.direction for goal in goals])
    points = volume_axes(values, goals)
    low, high = points.min(axis=0), points.max(axis=0)
    reference = high + 0.1 * np.maximum(high - low, 1e-9)
    order = sorted(range(len(points)), key=lambda i: (ranks[i], evaluations[i].number))
    chosen: list[int] = []
    while len(chosen) < min(count, len(points)):
        gains = expected_gain(
            points[:, 0],
            np.zeros(len(points)),
            points[:, 1:],
            points[np.array(chosen, int)],
            reference,
        )
        best = int(np.argmax(gains))
        if gains[best] <= 1e-12:
            chosen += [i for i in order if i not in chosen][: count - len(chosen)]
            break
        chosen.append(best)
    return [evaluations[i] for i in chosen]
