"""The front: evaluations that no other beats in every goal, and the volume they dominate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

# Optuna has no public function for it; this module has kept its place and signature since 4.0.
from optuna._hypervolume import compute_hypervolume

from paredown.search.config.qualities import Direction, quality_of
from paredown.search.study.evaluation import (
    UNCOMPRESSED,
    Evaluation,
    Goal,
    comparable,
    is_cost,
    reference,
    require_goals,
)
from paredown.search.study.rung import Rung


@dataclass(frozen=True)
class Front:
    """The non-dominated evaluations of one rung, kept as they come; members in order of arrival.

    Failed evaluations, those that do not compare with the rung's and those outside a goal's bounds never
    enter. Two evaluations with equal values stay both, as in Optuna's `best_trials`; of one candidate
    that was trained further, the better alone, or the later of equal ones.

    >>> goals = (Goal(metric="accuracy", direction="maximize"),)
    >>> Front(goals).members
    ()
    """

    goals: tuple[Goal, ...]
    rung: Rung = field(default_factory=Rung)
    members: tuple[Evaluation, ...] = ()

    def add(self, evaluation: Evaluation) -> Front:
        """The front with `evaluation` in it; the very same object where nothing changed.

        Raises:
            MissingMetricError: A successful evaluation of this rung lacks a goal's metric.
        """
        if evaluation.is_failed or not evaluation.rung.compares_with(self.rung):
            return self
        before = tuple(m for m in self.members if m.key != evaluation.key)
        mine = losses(evaluation, self.goals)
        if not is_within_bounds(evaluation, self.goals):
            return self
        if any(_dominates(losses(member, self.goals), mine) for member in self.members):
            return self
        kept = [m for m in before if not _dominates(mine, losses(m, self.goals))]
        return replace(self, members=(*kept, evaluation))

    @property
    def keys(self) -> frozenset[str]:
        """Candidate keys of the members."""
        return frozenset(member.key for member in self.members)


def standing_of(evaluations: Sequence[Evaluation], front: Front) -> Evaluation:
    """Of one candidate's evaluations the front's member, else the one at the highest rung.

    Failed ones count only where there is no other.
    """
    numbers = {member.number for member in front.members}
    return max(
        evaluations, key=lambda e: (e.number in numbers, not e.is_failed, e.rung.number, e.number)
    )


def front_of(
    evaluations: Iterable[Evaluation], goals: tuple[Goal, ...], rung: Rung | None = None
) -> Front:
    """The front of all `evaluations` of `rung`, by default the first with nothing known of its rows."""
    front = Front(goals, rung or Rung())
    for evaluation in evaluations:
        front = front.add(evaluation)
    return front


def goals_on(
    rung: Rung, evaluations: Sequence[Evaluation], goals: Sequence[Goal]
) -> tuple[Goal, ...]:
    """The goals with their bounds for scores of `rung`.

    Relative bounds on qualities refer to the uncompressed model, which scores otherwise on other rows.

    Args:
        evaluations: All of a run, the uncompressed model on the first rung among them.
        goals: With bounds for scores of the first rung.
    """
    here = reference(comparable(evaluations, rung), UNCOMPRESSED)
    first = next((e for e in evaluations if e.label == UNCOMPRESSED and not e.is_failed), None)
    if here is None or first is None:
        return tuple(goals)
    return tuple(
        g.moved(here.metrics[g.metric] - first.metrics[g.metric])
        if g.relative and not g.is_cost
        else g
        for g in goals
    )


def losses(evaluation: Evaluation, goals: Sequence[Goal]) -> tuple[float, ...]:
    """The goals' values, turned so that smaller is better.

    Raises:
        MissingMetricError: A goal's metric is absent or NaN.
    """
    require_goals(evaluation, goals)
    return tuple(goal.loss(evaluation.metrics[goal.metric]) for goal in goals)


def is_within_bounds(evaluation: Evaluation, goals: Sequence[Goal]) -> bool:
    """Whether a successful evaluation keeps every hard bound, see `Goal.keeps_bounds`."""
    return all(goal.keeps_bounds(evaluation.metrics) for goal in goals)


def non_dominated(values: np.ndarray, directions: Sequence[Direction]) -> np.ndarray:
    """Which rows of `values` (n, d) no other row beats: boolean (n,). NaN is never kept.

    >>> non_dominated(np.array([[0.9, 2.0], [0.8, 3.0]]), ("maximize", "minimize")).tolist()
    [True, False]
    """
    return non_dominated_rank(values, directions) == 0


def non_dominated_rank(values: np.ndarray, directions: Sequence[Direction]) -> np.ndarray:
    """Rank (n,) of every row of `values` (n, d): 0 for the front, 1 once that is taken away, ...

    Non-dominated sorting of Deb et al. 2002, doi:10.1109/4235.996017, in O(n² d). Rows with NaN
    share the rank after the last.
    """
    signs = np.array([-1.0 if direction == "maximize" else 1.0 for direction in directions])
    turned = np.asarray(values, dtype=float).reshape(-1, len(signs)) * signs
    is_whole = ~np.isnan(turned).any(axis=1)
    no_worse = (turned[:, None] <= turned[None]).all(axis=2)
    beats = no_worse & (turned[:, None] < turned[None]).any(axis=2)
    ranks = np.full(len(turned), -1)
    rank = 0
    left = is_whole.copy()
    while left.any():
        layer = left & ~beats[left].any(axis=0)
        ranks[layer] = rank
        left &= ~layer
        rank += 1
    ranks[~is_whole] = rank
    return ranks


def reference_point(
    goals: Sequence[Goal], uncompressed: Evaluation, dearest: Evaluation
) -> np.ndarray:
    """The worst point (d,) that still counts for the hypervolume, in `volume_axes` coordinates.

    For a quality it lies below the uncompressed model by the quality's margin (ten points of
    accuracy); for a cost it is that of `dearest`. Benchmarks are strict and take the uniform 8-bit
    model, which anybody gets for free. A search with several costs takes the uncompressed model:
    where uniform 8-bit is the fastest there is, a point that is smaller but no faster would not count.
    """
    worst = []
    for goal in goals:
        if is_cost(goal.metric):
            worst.append(dearest.metrics[goal.metric])
            continue
        value = uncompressed.metrics[goal.metric]
        slack = quality_of(goal.metric).slack(value)
        worst.append(value - slack if goal.direction == "maximize" else value + slack)
    return volume_axes(np.array([worst]), goals)[0]


def volume_axes(values: np.ndarray, goals: Sequence[Goal]) -> np.ndarray:
    """`values` (n, d) in the coordinates in which volume is taken: (n, d), smaller is better.

    Costs enter as natural logarithms, so that halving a cost is worth the same anywhere; qualities
    stay as they are.
    """
    columns = []
    for goal, column in zip(goals, np.asarray(values, dtype=float).T, strict=True):
        # A cost of zero (a network without multiplications) must stay finite.
        scaled = np.log(np.maximum(column, 1e-12)) if is_cost(goal.metric) else column
        columns.append(-scaled if goal.direction == "maximize" else scaled)
    return np.stack(columns, axis=1)


def hypervolume(front: Front, reference: np.ndarray) -> float:
    """Volume that `front` dominates, bounded by `reference` (d,) of `reference_point`.

    With accuracy as a share and costs as logarithms: 0.1 · ln 2 is ten points of accuracy held at
    half the cost. Members that do not beat the reference point add nothing.
    """
    if not front.members:
        return 0.0
    values = np.array([[m.metrics[g.metric] for g in front.goals] for m in front.members])
    points = volume_axes(values, front.goals)
    return dominated_volume(points, reference)


def dominated_volume(points: np.ndarray, reference: np.ndarray) -> float:
    """Volume that `points` (n, d) dominate up to `reference` (d,), smaller being better."""
    inside = points[(points <= reference).all(axis=1)]
    return float(compute_hypervolume(inside, reference)) if len(inside) else 0.0


def _dominates(first: Sequence[float], second: Sequence[float]) -> bool:
    no_worse = all(a <= b for a, b in zip(first, second, strict=True))
    return no_worse and tuple(first) != tuple(second)
