"""Searches of the same model side by side: each asks for what it likes, nothing is evaluated twice."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from paredown.search.evaluating.workbench import Workbench
from paredown.search.proposing.coordinator import Coordinator, Engine
from paredown.search.proposing.damage_terms import DamageTerms
from paredown.search.proposing.jobs import Job, Outcome
from paredown.search.proposing.outlook import Outlook
from paredown.search.proposing.proposer import Proposer
from paredown.search.running.benching.outcomes import Known, OutcomeFile
from paredown.search.running.engines.trial import longest_s
from paredown.search.running.ledger import evaluation_of
from paredown.search.running.searching import make_proposer, reference_jobs
from paredown.search.running.working import INTERRUPTED, work
from paredown.search.study.evaluation import UNIFORM_8_BIT, Evaluation, Goal
from paredown.search.study.pareto import reference_point
from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.knobs.space import Space
from paredown.spaces.system.errors import ParedownError


class YardstickError(ParedownError):
    """What all arms are held against has no score."""


def succeeded(yardstick: Evaluation) -> Evaluation:
    """The evaluation of a model that all others are held against.

    Raises:
        YardstickError: It failed.
    """
    if yardstick.failure is not None:
        raise YardstickError(
            f"the {yardstick.label} model must have a score, as all others are held against it, got "
            f"a failure: {yardstick.failure.sentence}; mend that first"
        )
    return yardstick


History = tuple[Evaluation, ...]
"""What a search evaluated, in the order of asking; the uncompressed model is the first."""


class Listener(Protocol):
    """Hears of every evaluation that a search takes."""

    def evaluated(self, evaluation: Evaluation, *, is_new: bool) -> None:
        """One more has come: carried out now, or known before."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """One search: its space, what draws from it, and how many evaluations it has, all of them counted.

    `behind` is the history that it goes on from, which counts; by default the uncompressed model alone.
    `first` are candidates that it begins with, behind the uniform references where it `has_references`.
    Without a sampler they are all there is.
    """

    space: Space
    sampler: str | None
    seed: int
    evaluations: int
    behind: History = ()
    first: tuple[Candidate, ...] = ()
    has_references: bool = True


class Contest:
    """Carries searches out on one workbench.

    Args:
        base: The uncompressed model's evaluation on the first rung.
        terms: Damage terms, each computed once for all searches.
    """

    def __init__(
        self,
        workbench: Workbench,
        goals: tuple[Goal, ...],
        base: Evaluation,
        engine: Engine,
        file: OutcomeFile,
        listener: Listener,
    ) -> None:
        self.workbench = workbench
        self.goals = goals
        self.base = base
        self._terms = DamageTerms(workbench.databases)
        self._engine = engine
        self._file = file
        self._listener = listener
        self._known: dict[str, Evaluation] = {}

    @property
    def references(self) -> tuple[Job, ...]:
        """The uniform models that a search is held against."""
        return tuple(reference_jobs(self.workbench))

    @property
    def rows(self) -> int:
        """Images that an evaluation forwards."""
        rung = self.workbench.rungs[0]
        return rung.rows or len(self.workbench.task.splits.search)

    @functools.cached_property
    def worst(self) -> np.ndarray:
        """The strict reference point (d,) of volumes, in `volume_axes` coordinates.

        In qualities it is the worst that counts beside the uncompressed model (ten points of accuracy
        less), in costs the uniform 8-bit model, which anybody gets for free.

        Raises:
            YardstickError: The uniform 8-bit model has no score.
        """
        count = 1 + len(self.references)
        space = self.workbench.space
        history = self.carry_out(Search(space=space, sampler=None, seed=0, evaluations=count))
        dearest = next(e for e in history if e.label == UNIFORM_8_BIT)
        return reference_point(self.goals, self.base, succeeded(dearest))

    def carry_out(self, search: Search) -> History:
        """The whole history of a search; what is in it and was not known before is on disk.

        Raises:
            KeyboardInterrupt: Ctrl-C; evaluations that were begun are finished and kept.
        """
        history = list(search.behind or (self.base,))
        rung = self.workbench.rungs[0]
        jobs = [Job(candidate=c, rung=rung) for c in search.first]
        if search.has_references:
            jobs = [*self.references, *jobs]
        keys = {e.key for e in history}
        first = [job for job in jobs if job.candidate.key not in keys]
        proposer = None
        if search.sampler is not None:
            proposer = self._proposer(search, search.sampler)
            for evaluation in history:
                proposer.learn(evaluation)

        def _note(evaluation: Evaluation) -> Sequence[Job]:
            history.append(evaluation)
            return ()

        coordinator = Coordinator(
            proposer=proposer,
            first=first[: search.evaluations - len(history)],
            evaluations=search.evaluations,
            batch=self.workbench.config.search.batch,
            rung=rung,
            tell=self._tell,
            told=len(history),
            longest_s=lambda: longest_s(self.workbench.config.search, [self.base]),
            follow=_note,
            known=self._find,
        )
        work(self._engine, coordinator)
        if coordinator.stopped == INTERRUPTED:
            raise KeyboardInterrupt
        return tuple(history)

    def evaluated(self, known: Known) -> Evaluation:
        """The evaluation of a known candidate: the same wherever it is asked for."""
        return self._priced(
            Job(candidate=known.candidate, rung=self.workbench.rungs[0]), known.outcome
        )

    def _proposer(self, search: Search, sampler: str) -> Proposer:
        section = self.workbench.config.search
        asked = {"sampler": sampler, "seed": search.seed, "evaluations": search.evaluations}
        config = self.workbench.config.model_copy(
            update={"search": section.model_copy(update=asked)}
        )
        workbench = replace(self.workbench, config=config, space=search.space)
        return make_proposer(workbench, self.goals, self.base, self._terms, Outlook())

    def _tell(self, job: Job, outcome: Outcome) -> Evaluation:
        self._file.add(job.candidate, outcome)
        return self._evaluation(job, outcome, is_new=True)

    def _find(self, job: Job) -> Evaluation | None:
        known = self._file.known.get(job.candidate.key)
        if known is None:
            return None
        return self._evaluation(job, known.outcome, is_new=False)

    def _evaluation(self, job: Job, outcome: Outcome, *, is_new: bool) -> Evaluation:
        evaluation = replace(self._priced(job, outcome), kind=job.kind, label=job.label)
        self._listener.evaluated(evaluation, is_new=is_new)
        return evaluation

    def _priced(self, job: Job, outcome: Outcome) -> Evaluation:
        """What a candidate costs is found once."""
        key = job.candidate.key
        if key not in self._known:
            self._known[key] = evaluation_of(self.workbench, job, outcome, len(self._known))
        return self._known[key]
