"""How the arms of a bench compare: the volume that their fronts dominate, by what it cost them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

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


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Volumes of an arm at one budget over its seeds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Spread:
        """Of at least one run."""
        volumes = [run.volume for run in runs]
        return cls(median=statistics.median(volumes), low=min(volumes), high=max(volumes))


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
