"""Hard bounds: from the config to absolute numbers, and what no model, or a candidate's price, meets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from paredown.compressors.export.plan import ExportError
from paredown.search.baseline import preset_costs
from paredown.search.display import show
from paredown.search.evaluation import Goal, Score
from paredown.search.reachable import check_bounds
from paredown.search.schema import Config, GoalSection
from paredown.search.survey import Surveyed
from paredown.search.workbench import Workbench
from paredown.spaces.candidate import Candidate
from paredown.spaces.draft import draft

_TIMED = ("calibrated", "measured")


def refuse_unreachable(surveyed: Surveyed) -> None:
    """Refuses bounds on costs that no model of the space meets, before anything is run or timed.

    Latency counts where it is known already: as a preset or a calibration file gives it.

    Raises:
        BoundError: The message names the bound and the nearest model that was found.
    """
    hardware = surveyed.config.hardware
    sections = _bounded_costs(surveyed.config, with_latency=hardware.latency not in _TIMED)
    if not sections:
        return
    models, space = preset_costs(surveyed), surveyed.space

    def price(candidate: Candidate, names: Sequence[str]) -> Mapping[str, float] | None:
        try:
            return models.price(draft(space.model_map(candidate), candidate), names)
        except ExportError:
            return None

    metrics = [section.metric for section in sections]
    base = price(Candidate(architecture=space.architectures[0].name), metrics)
    if base is not None:
        check_bounds(space, absolute_goals(sections, base), price, base)


def refuse_too_slow(workbench: Workbench) -> None:
    """As `refuse_unreachable`, with the latency model that was fitted on this machine.

    Raises:
        BoundError: As there.
    """
    config = workbench.config
    sections = _bounded_costs(config, with_latency=True)
    # Where every price is a measurement, seeking the fastest would be a search of its own.
    is_fitted = config.hardware.latency == "calibrated"
    if is_fitted and any(section.metric == "latency_s" for section in sections):
        base = workbench.price(workbench.uncompressed())
        check_bounds(workbench.space, absolute_goals(sections, base), workbench.costs, base)


def _bounded_costs(config: Config, *, with_latency: bool) -> tuple[GoalSection, ...]:
    return tuple(
        goal
        for goal in config.goals
        if goal.is_cost and goal.bound is not None and (with_latency or goal.metric != "latency_s")
    )


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
