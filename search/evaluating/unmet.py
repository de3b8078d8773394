"""What is said of bounds that models turn out not to meet: before a search, and after one found none."""

from __future__ import annotations

from collections.abc import Sequence

from paredown.search.config.schema import Config
from paredown.search.evaluating.bounds import absolute_goals
from paredown.search.study.display import name_of, show
from paredown.search.study.evaluation import Evaluation, Goal, Score, comparable
from paredown.search.study.pareto import Front


def doubtful_bounds(config: Config, quality: str, score: Score) -> list[str]:
    """Bounds on quality that the uncompressed model itself does not meet, one sentence each.

    Args:
        quality: The task's metric.
        score: Of the uncompressed model, on the rows that candidates are first scored on.
    """
    found = []
    values = {quality: score.metric, "loss": score.loss}
    sections = tuple(goal for goal in config.goals if goal.metric in values)
    for section, goal in zip(sections, absolute_goals(sections, values), strict=True):
        value = values[goal.metric]
        if not goal.is_met(value):
            side = "at_least" if goal.direction == "maximize" else "at_most"
            found.append(
                f"goals: {goal.metric} is {show(goal.metric, value)} for the uncompressed model on "
                f"{score.images:,} rows, which is outside the bound {side}: {section.bound:g}; few "
                "compressed models do better, so loosen it"
            )
    return found


def why_none(evaluations: Sequence[Evaluation], front: Front) -> str:
    """Why a front is empty: the bounds that no evaluation meets, and the nearest to each."""
    scored = [e for e in comparable(evaluations, front.rung) if not e.is_failed]
    if not scored:
        return f"no model was scored: all {len(evaluations)} evaluations failed"
    missed = []
    for goal in front.goals:
        if not any(goal.keeps_bounds(e.metrics) for e in scored):
            nearest_to = min(scored, key=lambda e, g=goal: g.loss(_held(g, e)))  # type: ignore[misc]
            missed.append(
                f"{goal.metric} {_shown_bound(goal)}: the nearest, {name_of(nearest_to)}, has "
                f"{show(goal.metric, _held(goal, nearest_to))}"
            )
    if not missed:
        return (
            f"none of {len(scored)} models meets all bounds together, though each is met by one; "
            "loosen a bound, or give the search more evaluations"
        )
    listed = "; nor ".join(missed)
    return f"none of {len(scored)} models meets {listed}; loosen it, or open more of the space"


def _held(goal: Goal, evaluation: Evaluation) -> float:
    metrics = evaluation.metrics
    return metrics.get(goal.held_metric, metrics[goal.metric])


def _shown_bound(goal: Goal) -> str:
    if goal.at_least is not None:
        return f">= {show(goal.metric, goal.at_least)}"
    assert goal.at_most is not None
    return f"<= {show(goal.metric, goal.at_most)}"
