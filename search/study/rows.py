"""A front as rows: which models, in which order and units; terminal, report and MLflow show the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paredown.search.config.qualities import quality_of
from paredown.search.study.display import Unit, show, title_of, unit_of
from paredown.search.study.evaluation import (
    UNCOMPRESSED,
    UNIFORM_8_BIT,
    Evaluation,
    Goal,
    comparable,
    is_cost,
    reference,
)
from paredown.search.study.rung import Rung

RATIO_NOTE = "7.23× is 7.23 times less than the uncompressed model; +0.20 is a difference to it"

VOLUME_NOTE = (
    "the hypervolume is how much of the space between a worst acceptable model and the ideal a front "
    "dominates; more is better"
)


@dataclass(frozen=True, kw_only=True)
class FrontRow:
    """One model: a value for each goal in the column's unit, and how it compares, "" if with nothing."""

    evaluation: Evaluation
    is_member: bool
    values: tuple[str, ...]
    comparisons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FrontRows:
    """The references, then the members from the best to the worst in the first goal.

    `units` has one unit for each goal's metric, so that a column can be compared by eye.
    """

    goals: tuple[Goal, ...]
    units: Mapping[str, Unit]
    rows: tuple[FrontRow, ...]

    @property
    def titles(self) -> tuple[str, ...]:
        """Heads of the goals' columns, with their units."""
        return tuple(title_of(goal.metric, self.units[goal.metric]) for goal in self.goals)


def front_rows(
    members: Sequence[Evaluation], goals: Sequence[Goal], references: Sequence[Evaluation] = ()
) -> FrontRows:
    """The rows of a front, compared with the first of `references`, which stand above it."""
    base = references[0] if references else None
    keys = {member.key for member in members}
    named = {each.key for each in references}
    aim = goals[0]
    others = [member for member in members if member.key not in named]
    shown = [*references, *sorted(others, key=lambda m: aim.loss(m.metrics[aim.metric]))]
    units = {goal.metric: _unit(goal.metric, shown) for goal in goals}
    rows = [
        FrontRow(
            evaluation=each,
            is_member=each.key in keys,
            values=tuple(_number(goal.metric, each, units[goal.metric]) for goal in goals),
            comparisons=tuple(against(goal, each, base) for goal in goals),
        )
        for each in shown
    ]
    return FrontRows(goals=tuple(goals), units=units, rows=tuple(rows))


def references_of(evaluations: Sequence[Evaluation], rung: Rung) -> list[Evaluation]:
    """The uncompressed and the uniform 8-bit model at `rung`; empty without the former."""
    same_rung = comparable(evaluations, rung)
    found = [reference(same_rung, label) for label in (UNCOMPRESSED, UNIFORM_8_BIT)]
    # Ratios are to the first, so without the uncompressed model there are none.
    return [e for e in found if e is not None] if found[0] is not None else []


def against(goal: Goal, evaluation: Evaluation, base: Evaluation | None) -> str:
    """How `evaluation` compares with `base` in one goal: "4.00×", "-0.30", "" where there is none.

    A cost as how many times less it is, a quality as a difference: in points where it is in per cent.
    """
    value = evaluation.metrics.get(goal.metric)
    whole = None if base is None else base.metrics.get(goal.metric)
    if value is None or whole is None:
        return ""
    if is_cost(goal.metric):
        return f"{whole / value:.2f}×" if value else "∞×"
    if quality_of(goal.metric).in_percent:
        return f"{100 * (value - whole):+.2f}"
    return f"{value - whole:+.3g}"


def _unit(metric: str, shown: Sequence[Evaluation]) -> Unit:
    values = [abs(e.metrics[metric]) for e in shown if metric in e.metrics]
    return unit_of(metric, max(values, default=1.0))


def _number(metric: str, evaluation: Evaluation, unit: Unit) -> str:
    if metric not in evaluation.metrics:
        return "–"
    return show(metric, evaluation.metrics[metric], unit).removesuffix(unit.symbol).rstrip()
