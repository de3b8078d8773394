"""Hard bounds: from the config to absolute numbers, and what a candidate's price alone breaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from paredown.search.evaluation import Goal
from paredown.search.schema import GoalSection
from paredown.search.workbench import Workbench
from paredown.spaces.candidate import Candidate


def refused_by(workbench: Workbench, goals: Sequence[Goal], candidate: Candidate) -> str | None:
    """The cost whose hard bound the candidate breaks, by price alone; None where it breaks none.

    A candidate without a price breaks none here: it fails with its reason when it is told.
    """
    bounded = [goal for goal in goals if goal.is_cost and goal.has_bound]
    if not bounded:
        return None
    prices = workbench.costs(candidate, [goal.held_metric for goal in bounded])
    if prices is None:
        return None
    return next((goal.metric for goal in bounded if not goal.keeps_bounds(prices)), None)


def absolute_goals(
    sections: tuple[GoalSection, ...], uncompressed: Mapping[str, float]
) -> tuple[Goal, ...]:
    """Goals with their bounds in the metric's own unit.

    Args:
        uncompressed: Metrics of the uncompressed model, which relative bounds refer to: a ratio for a
            cost, a difference for a quality.
    """
    goals = []
    for section in sections:
        bounds: dict[str, float] = {}
        for side in ("at_most", "at_least"):
            value = getattr(section, side)
            if value is not None:
                base = uncompressed[section.metric]
                absolute = value * base if section.is_cost else value + base
                bounds[side] = absolute if section.relative else value
        goals.append(
            Goal(
                metric=section.metric,
                direction=section.direction,
                relative=section.relative,
                **bounds,
            )
        )
    return tuple(goals)
