"""What proposes candidates, and Optuna's samplers in that role."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import optuna
from optuna.distributions import IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import Trial, TrialState

from paredown.search.study.evaluation import Evaluation
from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.knobs.space import Space

Distributions = Mapping[str, IntDistribution]
"""By parameter: positions in a knob's ordered domain, from 0."""
Directions = Mapping[str, str]
"""By metric of a goal, in the goals' order: "maximize" or "minimize"."""


class Sampler(Protocol):
    """Proposes candidates of a space, and learns from every evaluation, whoever proposed it."""

    def suggest(self, known: Collection[str]) -> Candidate | None:
        """A candidate to evaluate, or None where this sampler has none to suggest now.

        One whose key is in `known` counts as a draw in vain.
        """

    def expect(self, candidate: Candidate) -> None:
        """Notes that the candidate is being evaluated: suggested here, by another sampler or drawn."""

    def learn(self, evaluation: Evaluation) -> None:
        """Takes the evaluation of a candidate, one that was expected or a reference."""


def distributions_of(space: Space) -> Distributions:
    """What an Optuna sampler draws from in this space."""
    return {name: IntDistribution(0, size - 1) for name, size in space.dimensions().items()}


class OptunaSampler:
    """An Optuna sampler on a study in memory.

    Args:
        space: What candidates are drawn from.
        directions: Of the study, whose values are these metrics.
        sampler: What draws; every candidate that is evaluated becomes a trial of its study.
        guard: Opened around every call of `sampler`, to report what it raises.
    """

    def __init__(
        self,
        space: Space,
        directions: Directions,
        sampler: BaseSampler,
        guard: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._space = space
        self._metrics = tuple(directions)
        self._guard = guard
        self._study = optuna.create_study(directions=list(directions.values()), sampler=sampler)
        self._distributions = dict(distributions_of(space))
        self._drawn: dict[str, Trial] = {}
        self._open: dict[str, Trial] = {}
        self._values: dict[str, Sequence[float]] = {}

    def suggest(self, known: Collection[str]) -> Candidate | None:
        """A draw. One that was evaluated before teaches the sampler its values again."""
        self._drop_drawn()
        trial = self._asked()
        candidate = self._space.decode(trial.params)
        if candidate.key in known:
            self._close(trial, self._values.get(candidate.key))
        else:
            self._drawn[candidate.key] = trial
        return candidate

    def expect(self, candidate: Candidate) -> None:
        """Opens a trial for the candidate."""
        trial = self._drawn.pop(candidate.key, None)
        self._open[candidate.key] = trial or self._asked(candidate)

    def learn(self, evaluation: Evaluation) -> None:
        """Closes the candidate's trial; a candidate of the space that has none gets one."""
        values = None
        if not evaluation.is_failed:
            values = [evaluation.metrics[metric] for metric in self._metrics]
            self._values[evaluation.key] = values
        trial = self._open.pop(evaluation.key, None)
        if trial is None and self._space.contains(evaluation.candidate):
            trial = self._asked(evaluation.candidate)
        if trial is not None:
            self._close(trial, values)

    def _asked(self, candidate: Candidate | None = None) -> Trial:
        """A trial of that candidate; None lets the sampler draw."""
        if candidate is not None:
            self._study.enqueue_trial(self._space.encode(candidate))
        with self._guard():
            return self._study.ask(dict(self._distributions))

    def _close(self, trial: Trial, values: Sequence[float] | None) -> None:
        with self._guard():
            if values is None:
                self._study.tell(trial, state=TrialState.FAIL)
            else:
                self._study.tell(trial, values)

    def _drop_drawn(self) -> None:
        """Closes the draw that was refused, if there is one."""
        for trial in self._drawn.values():
            self._close(trial, None)
        self._drawn = {}
