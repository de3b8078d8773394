"""Hard bounds: from the config to absolute numbers, and what no model, or a candidate's price, meets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from paredown.compressors.onnx.plan import ExportError
from paredown.search.config.schema import Config, GoalSection
from paredown.search.evaluating.baseline import preset_costs
from paredown.search.evaluating.reachable import check_bounds, nearest
from paredown.search.evaluating.surveying import Surveyed
from paredown.search.evaluating.workbench import Workbench
from paredown.search.study.evaluation import Goal
from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.candidates.drafting import draft

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

    def _price(candidate: Candidate, names: Sequence[str]) -> Mapping[str, float] | None:
        try:
            return models.price(draft(space.model_map(candidate), candidate), names)
        except ExportError:
            return None

    metrics = [section.metric for section in sections]
    base = _price(Candidate(architecture=space.architectures[0].name), metrics)
    if base is not None:
        check_bounds(space, absolute_goals(sections, base), _price, base)


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


def cheapest_within(workbench: Workbench, goals: Sequence[Goal]) -> Candidate | None:
    """A candidate within the bounds on costs; None where there are none, or where none was found."""
    is_measured = workbench.config.hardware.latency == "measured"
    bounded = [
        goal
        for goal in goals
        if goal.is_cost
        and goal.at_most is not None
        and not (is_measured and goal.metric == "latency_s")
    ]
    found = nearest(workbench.space, bounded, workbench.costs) if bounded else None
    return found.candidate if found is not None and found.excess <= 1 else None


def _bounded_costs(config: Config, *, with_latency: bool) -> tuple[GoalSection, ...]:
    return tuple(
        goal
        for goal in config.goals
        if goal.is_cost and goal.bound is not None and (with_latency or goal.metric != "latency_s")
    )


def refused_by(workbench: Workbench, goals: Sequence[Goal], candidate: Candidate) -> str | None:
    """The cost whose hard bound the candidate breaks, by price alone; None where it breaks none.

    A candidate without a price breaks none here: it fails with its reason when it is scored.
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
