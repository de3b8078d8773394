"""Proposes candidates: an Optuna sampler in memory beside an adviser, never twice the same.

Every parameter is an integer position in a knob's ordered domain. Draws that decode to a known candidate
are told to the sampler with the values already known; draws over a hard bound are counted and dropped.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import Trial, TrialState

from paredown.search.evaluation import Evaluation, Goal
from paredown.spaces.candidate import Candidate
from paredown.spaces.space import Space

PATIENCE = 10_000
"""Refused draws in a row after which the search gives up asking."""
_STUBBORN = 200
"""Refused draws in a row after which one is taken at random: the sampler has converged."""


class SpaceExhausted(Exception):
    """No new candidate within the bounds was drawn in `PATIENCE` attempts."""


class Adviser(Protocol):
    """Has its say before the sampler."""

    def suggest(self, known: Collection[str]) -> Candidate | None:
        """A candidate whose key is not in `known`, or None to leave it to the sampler."""

    def tell(self, evaluation: Evaluation) -> None:
        """What came of a candidate, whoever proposed it."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A candidate to evaluate and the parameters that decode to it."""

    candidate: Candidate
    parameters: Mapping[str, int]


def make_sampler(name: str, seed: int, population: int) -> BaseSampler:
    """The Optuna sampler of that name; "ladder" falls back on NSGA-II where it has no advice."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if name in ("ladder", "nsga2"):
            return optuna.samplers.NSGAIISampler(population_size=population, seed=seed)
        if name == "nsga3":
            return optuna.samplers.NSGAIIISampler(population_size=population, seed=seed)
        if name == "tpe":
            return optuna.samplers.TPESampler(seed=seed, multivariate=True)
        if name == "gp":
            return optuna.samplers.GPSampler(seed=seed)
        return optuna.samplers.RandomSampler(seed=seed)


class Proposer:
    """Asks the sampler for candidates and tells it what came of them.

    Args:
        space: What candidates are drawn from.
        goals: Directions of the study.
        sampler: See `make_sampler`.
        adviser: Asked first each time; what it suggests outside the space is skipped. None leaves
            all to the sampler.
        refused_by: The metric whose hard bound a candidate's price breaks, or None.
    """

    def __init__(
        self,
        space: Space,
        goals: Sequence[Goal],
        sampler: BaseSampler,
        adviser: Adviser | None,
        refused_by: Callable[[Candidate], str | None],
    ) -> None:
        self._space = space
        self._goals = tuple(goals)
        self._study = optuna.create_study(
            directions=[goal.direction for goal in goals], sampler=sampler
        )
        self._random = optuna.samplers.RandomSampler(seed=0)
        self._adviser = adviser
        self._outside: set[str] = set()
        self._refused_by = refused_by
        self._open: dict[str, Trial] = {}
        self._known: dict[str, Evaluation | None] = {}
        self.over_bound: dict[str, int] = {}

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        sizes = self._space.dimensions()
        return {name: IntDistribution(0, size - 1) for name, size in sizes.items()}

    def ask(self) -> Proposal:
        """A candidate that was never proposed before and breaks no hard bound.

        Raises:
            SpaceExhausted: None was found; the message names the tightest bound.
        """
        for attempt in range(PATIENCE):
            advice = self._advice()
            if advice is not None:
                self._study.enqueue_trial(self._space.encode(advice))
            elif attempt and attempt % _STUBBORN == 0:
                self._study.enqueue_trial(self._draw_at_random())
            trial = self._study.ask(self.distributions)
            candidate = self._space.decode(trial.params)
            if candidate.key in self._known:
                self._close(trial, self._known[candidate.key])
                continue
            metric = self._refused_by(candidate)
            if metric is not None:
                self.over_bound[metric] = self.over_bound.get(metric, 0) + 1
                self._known[candidate.key] = None
                self._close(trial, None)
                continue
            self._known[candidate.key] = None
            self._open[candidate.key] = trial
            return Proposal(candidate=candidate, parameters=dict(trial.params))
        raise SpaceExhausted(self._why_exhausted())

    def tell(self, evaluation: Evaluation) -> None:
        """What came of a proposal, or of a candidate evaluated for another reason."""
        self._known[evaluation.key] = evaluation
        if self._adviser is not None:
            self._adviser.tell(evaluation)
        trial = self._open.pop(evaluation.key, None)
        if trial is None and self._space.contains(evaluation.candidate):
            self._study.enqueue_trial(self._space.encode(evaluation.candidate))
            trial = self._study.ask(self.distributions)
        if trial is not None:
            self._close(trial, evaluation)

    def _close(self, trial: Trial, evaluation: Evaluation | None) -> None:
        if evaluation is None or evaluation.is_failed:
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._study.tell(trial, [evaluation.metrics[g.metric] for g in self._goals])

    def _advice(self) -> Candidate | None:
        while self._adviser is not None:
            candidate = self._adviser.suggest(self._known.keys() | self._outside)
            if candidate is None or self._space.contains(candidate):
                return candidate
            self._outside.add(candidate.key)
        return None

    def _draw_at_random(self) -> dict[str, int]:
        probe = optuna.create_study(sampler=self._random)
        return dict(probe.ask(self.distributions).params)

    def _why_exhausted(self) -> str:
        if self.over_bound:
            metric = max(self.over_bound, key=lambda name: self.over_bound[name])
            return (
                f"{PATIENCE} draws in a row were known or over a bound, most over that of {metric}; "
                "loosen it, or open more of the space"
            )
        return f"{PATIENCE} draws in a row were known already: the space is exhausted"
