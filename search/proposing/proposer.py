"""Proposes candidates: an Optuna sampler in memory beside an adviser, never twice the same.

Every parameter is an integer position in a knob's ordered domain. Draws that decode to a known candidate
are told to the sampler with the values already known; draws over a hard bound are counted and dropped.
Where the sampler repeats itself, a candidate is sought without it: in a small space among all there are,
so that the search ends as soon as nothing is left, in a large one at random.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import Trial, TrialState

from paredown.search.study.evaluation import Evaluation, Goal
from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.knobs.space import Space

PATIENCE = 10_000
"""Random draws of a large space that find nothing new before the search gives up."""
_SMALL = 5_000
"""Settings up to which a space is small: all of them are decoded and priced in seconds."""
_STUBBORN, _STUBBORN_SMALL = 200, 20
"""Refused draws in a row after which the sampler has converged, in a large and in a small space."""


class SpaceExhausted(Exception):
    """No new candidate within the bounds is left, or none was found; the message says which."""


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
        within: A candidate within the hard bounds, near which others are sought where draws from
            the whole space lie outside.
    """

    def __init__(
        self,
        space: Space,
        goals: Sequence[Goal],
        sampler: BaseSampler,
        adviser: Adviser | None,
        refused_by: Callable[[Candidate], str | None],
        within: Candidate | None = None,
    ) -> None:
        self._space = space
        self._goals = tuple(goals)
        self._study = optuna.create_study(
            directions=[goal.direction for goal in goals], sampler=sampler
        )
        self._random = random.Random(0)
        self._sizes = space.dimensions()
        self._settings = math.prod(self._sizes.values())
        self._unseen = self._shuffled() if self._settings <= _SMALL else None
        self._swept: set[str] = set()
        self._within = None if within is None else space.encode(within)
        self._adviser = adviser
        self._outside: set[str] = set()
        self._refused_by = refused_by
        self._open: dict[str, Trial] = {}
        self._known: dict[str, Evaluation | None] = {}
        self.over_bound: dict[str, int] = {}

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Optuna distributions by parameter: integer positions in each knob's domain, from 0."""
        return {name: IntDistribution(0, size - 1) for name, size in self._sizes.items()}

    def ask(self) -> Proposal:
        """A candidate that was never proposed before and breaks no hard bound.

        Raises:
            SpaceExhausted: None was found; the message names the tightest bound.
        """
        for _ in range(_STUBBORN if self._unseen is None else _STUBBORN_SMALL):
            advice = self._advice()
            if advice is not None:
                self._study.enqueue_trial(self._space.encode(advice))
            trial = self._study.ask(self.distributions)
            candidate = self._space.decode(trial.params)
            if self._is_new(candidate):
                return self._opened(candidate, trial)
            self._close(trial, self._known[candidate.key])
        for parameters in self._unseen if self._unseen is not None else self._at_random():
            candidate = self._space.decode(parameters)
            self._swept.add(candidate.key)
            if self._is_new(candidate):
                self._study.enqueue_trial(parameters)
                return self._opened(candidate, self._study.ask(self.distributions))
        raise SpaceExhausted(self._why_exhausted())

    def expect(self, keys: Iterable[str]) -> None:
        """Candidates that are evaluated without being asked for: never propose them."""
        self._known |= {key: None for key in keys if key not in self._known}

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

    def _is_new(self, candidate: Candidate) -> bool:
        """Whether to propose it: not known, and within the hard bounds. Known from now on."""
        if candidate.key in self._known:
            return False
        self._known[candidate.key] = None
        metric = self._refused_by(candidate)
        if metric is not None:
            self.over_bound[metric] = self.over_bound.get(metric, 0) + 1
        return metric is None

    def _opened(self, candidate: Candidate, trial: Trial) -> Proposal:
        self._open[candidate.key] = trial
        return Proposal(candidate=candidate, parameters=dict(trial.params))

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

    def _shuffled(self) -> Iterator[dict[str, int]]:
        """Every setting once, in random order; what was passed over is known for good."""
        for number in self._random.sample(range(self._settings), self._settings):
            parameters = {}
            for name, size in self._sizes.items():
                number, parameters[name] = divmod(number, size)
            yield parameters

    def _at_random(self) -> Iterator[dict[str, int]]:
        if self._within is not None:
            yield self._within
        for draw in range(PATIENCE):
            drawn = {name: self._random.randrange(size) for name, size in self._sizes.items()}
            if self._within is not None and draw % 2:
                # From a step or two away to anywhere: how wide the bounds are is not known.
                kept = self._random.random()
                drawn |= {n: v for n, v in self._within.items() if self._random.random() < kept}
            yield drawn

    def _why_exhausted(self) -> str:
        over = sum(self.over_bound.values())
        worst = max(self.over_bound, key=lambda name: self.over_bound[name], default="")
        remedy = f"most over that of {worst}; loosen it, or open more of the space"
        if self._unseen is None:
            start = f"{PATIENCE} random draws found nothing new"
            return f"{start}: known or over a bound, {remedy}" if over else f"{start} in the space"
        models = f"{len(self._swept)} model{'s' * (len(self._swept) != 1)}"
        if over:
            return f"the space is exhausted: {over} of its {models} are over a bound, {remedy}"
        return f"the space is exhausted: all of it was evaluated, {models}; open more to go on"
