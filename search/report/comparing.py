"""Two runs side by side: whose front dominates more, and which points of each still count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Group
from rich.table import Table

from paredown.search.report.tables import front_table, plain_table
from paredown.search.report.terminal import styled
from paredown.search.study.display import show, title_of
from paredown.search.study.evaluation import Goal
from paredown.search.study.pareto import Front, front_of, hypervolume, losses, reference_point
from paredown.search.study.rows import VOLUME_NOTE
from paredown.search.study.run_record import RunRecord
from paredown.spaces.system.errors import ParedownError
from paredown.spaces.system.json_values import Json


class CompareError(ParedownError):
    """Two runs have too little in common to be compared."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two fronts in the goals both runs have.

    `hypervolumes` share one reference point; `dominated` is the share of each front's points, in
    [0, 1], that some point of the other beats. `notes` say where the runs differ.
    """

    goals: tuple[Goal, ...]
    fronts: tuple[Front, Front]
    hypervolumes: tuple[float, float]
    dominated: tuple[float, float]
    notes: tuple[str, ...] = ()


def compare(first: RunRecord, second: RunRecord) -> Comparison:
    """`first` against `second`.

    The reference point is the worse of the two runs' own in every goal, so that it bounds both.

    Raises:
        CompareError: Fewer than two goals are common, or a run lacks its uncompressed reference.
    """
    goals = _common_goals(first, second)
    fronts = (_restricted(first, goals), _restricted(second, goals))
    bases = []
    for run in (first, second):
        if run.uncompressed is None:
            raise CompareError(
                f"a run must have its uncompressed reference, {run.folder} has none yet; let its "
                "search go on with --resume"
            )
        bases.append(run.uncompressed)
    worst = np.maximum(*(reference_point(goals, base, base) for base in bases))
    notes = []
    for goal in goals:
        one, other = (base.metrics[goal.metric] for base in bases)
        if abs(one - other) > 0.02 * abs(one):
            notes.append(
                f"the uncompressed {title_of(goal.metric)} differs: {show(goal.metric, one)} "
                f"against {show(goal.metric, other)}; task, device or calibration is not the same"
            )
    return Comparison(
        goals=goals,
        fronts=fronts,
        hypervolumes=(hypervolume(fronts[0], worst), hypervolume(fronts[1], worst)),
        dominated=(dominated_share(*fronts), dominated_share(*reversed(fronts))),
        notes=tuple(notes),
    )


def dominated_share(front: Front, other: Front) -> float:
    """Share of `front`'s members that a member of `other` beats; 0 for an empty front.

    Set coverage C(other, front) of Zitzler and Thiele 1999, doi:10.1109/4235.797969, with strict
    dominance, so that equal points count for neither.
    """
    if not front.members or not other.members:
        return 0.0
    mine, theirs = _losses(front)[:, None], _losses(other)[None]
    no_worse = np.all(theirs <= mine, axis=2)
    beats = no_worse & np.any(theirs < mine, axis=2)
    return float(np.mean(np.any(beats, axis=1)))


def comparison_view(found: Comparison, names: tuple[str, str]) -> Group:
    """The comparison for a terminal: one line per run, then both fronts."""
    head = plain_table("run", "models on front", "hypervolume", "beaten by the other")
    for place, name in enumerate(names):
        head.add_row(
            f"{'AB'[place]}  {name}",
            str(len(found.fronts[place].members)),
            f"{found.hypervolumes[place]:.4f}",
            f"{found.dominated[place]:.0%}",
        )
    notes = [styled(VOLUME_NOTE, "dim")]
    notes += [styled(f"note: {note}", "yellow") for note in found.notes]
    tables = [_titled(place, front) for place, front in enumerate(found.fronts)]
    return Group(head, *notes, *(part for table in tables for part in ("", table)))


def comparison_json(found: Comparison, names: tuple[str, str]) -> dict[str, Json]:
    """The comparison as plain values, metrics in SI units."""
    return {
        "goals": [{"metric": g.metric, "direction": g.direction} for g in found.goals],
        "notes": list(found.notes),
        "runs": [
            {
                "run": names[place],
                "hypervolume": found.hypervolumes[place],
                "beaten_share": found.dominated[place],
                "front": [
                    {"key": m.key, "label": m.label, "metrics": dict(m.metrics)}
                    for m in found.fronts[place].members
                ],
            }
            for place in range(2)
        ],
    }


def _titled(place: int, front: Front) -> Table:
    table = front_table(front.members, front.goals)
    table.title = f"Front of {'AB'[place]}"
    table.title_justify = "left"
    return table


def _common_goals(first: RunRecord, second: RunRecord) -> tuple[Goal, ...]:
    theirs = {(goal.metric, goal.direction) for goal in second.goals}
    # Bounds are each run's own; the points that broke them are not on its front already.
    common = tuple(
        Goal(metric=goal.metric, direction=goal.direction)
        for goal in first.goals
        if (goal.metric, goal.direction) in theirs
    )
    if len(common) < 2:
        raise CompareError(
            f"two runs are compared in two goals or more that both have, got "
            f"{_named(first.goals)} and {_named(second.goals)}; search both with the same goals"
        )
    return common


def _restricted(run: RunRecord, goals: tuple[Goal, ...]) -> Front:
    return front_of(run.front.members, goals, run.front.rung)


def _losses(front: Front) -> np.ndarray:
    return np.array([losses(member, front.goals) for member in front.members])


def _named(goals: Sequence[Goal]) -> str:
    return ", ".join(goal.metric for goal in goals)
