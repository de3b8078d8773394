"""What a bench found: the volume that the arms' fronts dominate, by evaluations and by images."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from paredown.search.running.benching.arm import Arm
from paredown.search.running.benching.contests import History
from paredown.search.study.evaluation import Evaluation, Goal
from paredown.search.study.pareto import Front, front_of, hypervolume


@dataclass(frozen=True, kw_only=True)
class Run:
    """One arm with one seed and one budget; `volumes` has one value for each evaluation."""

    arm: str
    seed: int
    budget: int
    history: History
    volumes: tuple[float, ...]

    @property
    def volume(self) -> float:
        """The volume at its end."""
        return self.volumes[-1]

    @property
    def failures(self) -> int:
        """Candidates without a score."""
        return sum(e.is_failed for e in self.history)


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A figure over seeds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(median=statistics.median(values), low=min(values), high=max(values))


@dataclass(frozen=True, kw_only=True)
class BenchResult:
    """Runs of arms, and the best front that is known of their goals.

    `rows` are the images that an evaluation forwards, `reference` (d,) the point that volumes reach up
    to, `known` the candidates that the bench's folder and the pool hold together, `joined` those of them
    that joined the pool now. `is_whole` says whether no run is missing.
    """

    name: str
    goals: tuple[Goal, ...]
    rows: int
    reference: tuple[float, ...]
    arms: tuple[Arm, ...]
    runs: tuple[Run, ...]
    best_volume: float
    best_members: int
    known: int
    joined: int
    is_whole: bool

    @property
    def budgets(self) -> tuple[int, ...]:
        """All budgets, the smallest first."""
        return tuple(sorted({run.budget for run in self.runs}))

    @property
    def seeds(self) -> int:
        """How many seeds there are runs of."""
        return len({run.seed for run in self.runs})

    def of(self, arm: str, budget: int) -> list[Run]:
        """The runs of an arm with a budget, by seed."""
        return [run for run in self.runs if (run.arm, run.budget) == (arm, budget)]

    def spread(self, arm: str, budget: int) -> Spread | None:
        """Volumes of an arm at a budget; None where it has no run."""
        runs = self.of(arm, budget)
        return Spread.of([run.volume for run in runs]) if runs else None

    def curve(self, arm: str, budget: int) -> list[Spread]:
        """Volumes after each evaluation; a run that ended before its budget stays where it was."""
        volumes = [run.volumes for run in self.of(arm, budget)]
        longest = max(map(len, volumes), default=0)
        return [Spread.of([v[min(i, len(v) - 1)] for v in volumes]) for i in range(longest)]

    def share(self, volume: float) -> float | None:
        """Of the best known volume; None where that is nothing."""
        return volume / self.best_volume if self.best_volume > 0 else None

    @property
    def ranked(self) -> tuple[Arm, ...]:
        """Arms with runs, the best at the largest budget first."""
        done = {run.arm for run in self.runs}
        return tuple(sorted((a for a in self.arms if a.name in done), key=self._rank))

    def _rank(self, arm: Arm) -> float:
        spread = self.spread(arm.name, self.budgets[-1])
        return 0.0 if spread is None else -spread.median


def volumes_of(
    history: Iterable[Evaluation], goals: tuple[Goal, ...], reference: np.ndarray
) -> tuple[float, ...]:
    """Volume of the front after each evaluation, up to `reference` (d,).

    Failed candidates and those outside a hard bound add nothing.
    """
    found: list[float] = []
    front: Front | None = None
    for evaluation in history:
        before = front or Front(goals, evaluation.rung)
        front = before.add(evaluation)
        is_same = front is before and found
        found.append(found[-1] if is_same else hypervolume(front, reference))
    return tuple(found)


def best_known(
    evaluations: Sequence[Evaluation], goals: tuple[Goal, ...], reference: np.ndarray
) -> tuple[Front, float]:
    """The front of all evaluations, which are of one rung, and its volume."""
    front = front_of(evaluations, goals, evaluations[0].rung)
    return front, hypervolume(front, reference)
