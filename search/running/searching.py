"""What a search does between its first evaluation and its front: proposing, scoring, rescoring."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from paredown.compressors.training.kept import KeepingError
from paredown.search.calibrating.drawing import uniform
from paredown.search.config.schema_task import CustomTask
from paredown.search.evaluating.bounds import cheapest_within, refused_by
from paredown.search.evaluating.workbench import Workbench
from paredown.search.proposing.coordinator import Coordinator, Engine
from paredown.search.proposing.jobs import Job
from paredown.search.proposing.outlook import Outlook
from paredown.search.proposing.prediction import DamageTerms
from paredown.search.proposing.promotion import Ascent, Promotion
from paredown.search.proposing.proposer import Proposer
from paredown.search.proposing.refiner import Refiner
from paredown.search.proposing.samplers import make_samplers
from paredown.search.running.engine_local import local_engine
from paredown.search.running.engine_ray import RayEngine, ray_cluster
from paredown.search.running.ledger import Ledger
from paredown.search.running.trial import longest_s
from paredown.search.study.evaluation import UNIFORM_8_BIT, Evaluation, of_rung
from paredown.search.study.rung import Rung
from paredown.spaces.candidates.candidate import Candidate

UNIFORM_4_BIT = "uniform 4-bit"
INTERRUPTED = "interrupted"


class Progress(Protocol):
    """Is notified what the search does now, and how many evaluations it asks for."""

    def started(self, total: int) -> None:
        """Scoring begins, for `total` evaluations including those already done."""

    def stage(self, text: str) -> None:
        """The search enters the stage described by `text`."""


@contextmanager
def open_engine(workbench: Workbench) -> Iterator[Engine]:
    """What carries the jobs of a search out, on either rung; a Ray cluster is up as long as it is open.

    Raises:
        ClusterError: The cluster cannot be had, or has not what a worker asks for.
    """
    config, evaluator = workbench.config, workbench.evaluator
    section = config.search
    if section.engine == "local":
        with local_engine(evaluator, section) as engine:
            yield engine
        return
    code = str(config.task.code_folder) if isinstance(config.task, CustomTask) else ""
    with ray_cluster(section, code):
        yield RayEngine(evaluator, section)


def explore(
    workbench: Workbench,
    engine: Engine,
    ledger: Ledger,
    base: Evaluation,
    terms: DamageTerms,
    outlook: Outlook,
    watch: Progress,
) -> str | None:
    """The first rung: candidates proposed and scored; why it stopped early, or None.

    Args:
        outlook: What training is expected to give back of the quality that they lose.
    """
    section = workbench.config.search
    watch.started(max(section.evaluations, 1 + len(_reference_jobs(workbench))))
    watch.stage("predicting damage for the warm start")
    budget_s = section.time_budget_s
    first_rung = _FirstRung(
        workbench=workbench,
        ledger=ledger,
        base=base,
        terms=terms,
        outlook=outlook,
        deadline_s=None if budget_s is None else time.monotonic() + budget_s,
    )
    coordinator = first_rung.replayed()
    if coordinator is None:
        watch.stage("going on with what is known: an uninterrupted search would ask otherwise")
        coordinator = first_rung.informed()
    watch.stage("searching")
    _work(engine, coordinator)
    assert coordinator.proposer is not None
    ledger.over_bound = sum(coordinator.proposer.over_bound.values())
    return coordinator.stopped


@dataclass(frozen=True, kw_only=True)
class _FirstRung:
    """Makes the coordinator of the first rung, behind whatever earlier sessions evaluated."""

    workbench: Workbench
    ledger: Ledger
    base: Evaluation
    terms: DamageTerms
    outlook: Outlook
    deadline_s: float | None

    @property
    def rung(self) -> Rung:
        """What candidates are scored on."""
        return self.workbench.rungs[0]

    def replayed(self) -> Coordinator | None:
        """The coordinator exactly where the earlier session stood, all of its questions asked again.

        None where that cannot be: what Ray asks depends on what finishes first, lost candidates
        are asked again out of turn, and other settings ask for other candidates.
        """
        uncompressed, *earlier = of_rung(self.ledger.evaluations, self.rung)
        section = self.workbench.config.search
        is_over = len(earlier) + 1 >= section.evaluations
        is_exact = section.engine == "local" and not any(e.is_lost for e in earlier)
        if earlier and (is_over or not is_exact):
            return None
        references = _reference_jobs(self.workbench)
        coordinator = self._coordinator([uncompressed], references)
        return coordinator if coordinator.replay(earlier) else None

    def informed(self) -> Coordinator:
        """A coordinator that begins anew, its proposer informed of all that was evaluated."""
        told = self.ledger.settled(self.rung)
        references = _reference_jobs(self.workbench)
        first = [job for job in references if job.candidate.key not in told]
        first += [
            Job(candidate=e.candidate, kind=e.kind, label=e.label, rung=self.rung)
            for e in self.ledger.lost(self.rung).values()
        ]
        return self._coordinator(told.values(), first)

    def _coordinator(self, told: Collection[Evaluation], first: list[Job]) -> Coordinator:
        proposer = self._proposer()
        for evaluation in told:
            proposer.learn(evaluation)
        section = self.workbench.config.search
        return Coordinator(
            proposer=proposer,
            first=first,
            evaluations=section.evaluations,
            batch=section.batch,
            rung=self.rung,
            tell=self.ledger.tell,
            told=len(told),
            deadline_s=self.deadline_s,
            longest_s=lambda: longest_s(section, of_rung(self.ledger.evaluations, self.rung)),
        )

    def _proposer(self) -> Proposer:
        workbench, goals = self.workbench, self.ledger.goals

        def _refused(candidate: Candidate) -> str | None:
            return refused_by(workbench, goals, candidate)

        def _ladder() -> Refiner:
            return Refiner.of(workbench, goals, self.base, self.terms, _refused, self.outlook)

        samplers = make_samplers(workbench.config, workbench.space, _ladder)
        return Proposer(workbench.space, samplers, _refused, cheapest_within(workbench, goals))


def _reference_jobs(workbench: Workbench) -> list[Job]:
    name = workbench.space.architectures[0].name
    return [
        Job(
            candidate=uniform(workbench.space, name, bits),
            kind="reference",
            label=label,
            rung=workbench.rungs[0],
        )
        for bits, label in ((8, UNIFORM_8_BIT), (4, UNIFORM_4_BIT))
    ]


@dataclass(frozen=True, kw_only=True)
class Climb:
    """From rung to rung: the leading candidates of each, as `Ascent` decides, on the one after it.

    Only what is scored on the whole search split makes the final front: scores of other rows are never
    compared with it.
    """

    workbench: Workbench
    engine: Engine
    ledger: Ledger
    base: Evaluation
    terms: DamageTerms
    outlook: Outlook
    watch: Progress

    def carry_out(self) -> str | None:
        """Climbs all rungs; why it stopped early, or None."""
        ledger, section, rungs = self.ledger, self.workbench.config.search, self.workbench.rungs
        own = of_rung(ledger.evaluations, rungs[0])
        first = [e for e in own if not e.is_failed]
        promotion = Promotion(first, ledger.goals, self.base, self.terms, self.outlook)
        self._enter(rungs[1])
        ascent = Ascent(promotion, rungs[1:], self.workbench.kept_of)
        jobs = ascent.begin()
        self.watch.started(len(own) + len(jobs) + ascent.coming)
        growth = len(self.workbench.task.splits.search) / section.rung_images
        done = {r.number: ledger.settled(r.untrained) | ledger.settled(r) for r in rungs[1:]}

        def _follow(evaluation: Evaluation) -> Sequence[Job]:
            following = ascent.follow(evaluation)
            over = ascent.over
            if over is not None and over.number > ledger.front.rung.number:
                self._leave(over)
                if over != rungs[-1]:
                    self._enter(rungs[over.number + 1])
            return following

        coordinator = Coordinator(
            proposer=None,
            first=jobs,
            evaluations=len(jobs),
            batch=1,
            rung=rungs[-1],
            tell=ledger.tell,
            # How long training takes is not known from scoring.
            longest_s=lambda: (
                None if self.workbench.is_trained else longest_s(section, first, growth)
            ),
            follow=_follow,
            known=lambda job: done[job.rung.number].get(job.candidate.key),
        )
        _work(self.engine, coordinator)
        if coordinator.stopped is None and ledger.front.rung != rungs[-1]:
            self._leave(rungs[-1])
        return coordinator.stopped

    def _leave(self, rung: Rung) -> None:
        ledger, recovering = self.ledger, self.workbench.evaluator.recovery
        ledger.use_rung(rung)
        if recovering is not None and not ledger.lost(rung):
            recovering.tidy(rung, ledger.evaluations, ledger.front.members)

    def _enter(self, rung: Rung) -> None:
        how = f"training to {rung.recipe.steps:,} steps" if rung.recipe.is_trained else "rescoring"
        self.watch.stage(f"{how}: the leading candidates, on the whole search split")


def _work(engine: Engine, coordinator: Coordinator) -> None:
    with _stop_on_interrupt(coordinator):
        engine.run(coordinator)
    if coordinator.obstacle:
        raise KeepingError(coordinator.obstacle)


@contextmanager
def _stop_on_interrupt(coordinator: Coordinator) -> Iterator[None]:
    """Ctrl-C asks no more and lets the running evaluations finish; a second one ends at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def _stop(*_: object) -> None:
        # Between any two bytecodes, even inside `tell`: what `_stop` records is acted on later.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        coordinator.stop(INTERRUPTED)

    before = signal.signal(signal.SIGINT, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
