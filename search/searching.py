"""What a search does between its first evaluation and its front: proposing, scoring, rescoring."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from paredown.search.belief import believed_values, quality_models
from paredown.search.bounds import cheapest_within, refused_by
from paredown.search.coordinator import Coordinator, Job
from paredown.search.engine_local import run_local
from paredown.search.engine_ray import ray_cluster, run_ray
from paredown.search.evaluation import UNIFORM_8_BIT, Evaluation
from paredown.search.latency_source import uniform
from paredown.search.ledger import Ledger
from paredown.search.prediction import DamageTerms
from paredown.search.promotion import leading
from paredown.search.proposer import Proposer, make_sampler
from paredown.search.refiner import Refiner
from paredown.search.rivals import rivals_among, unbeaten
from paredown.search.schema_task import CustomTask
from paredown.search.workbench import Workbench
from paredown.spaces.candidate import Candidate

UNIFORM_4_BIT = "uniform 4-bit"
INTERRUPTED = "interrupted"
_RIVAL_SHARE = 10
"""Of so many candidates promoted, one more for each reference is promoted for beating it."""


Engine = Callable[[Coordinator], None]
"""Carries jobs out until the coordinator has nothing more to do."""


class Progress(Protocol):
    """Is told what the search does now, and how many evaluations it asks for."""

    def started(self, total: int) -> None: ...

    def stage(self, text: str) -> None: ...


@contextmanager
def open_engine(workbench: Workbench) -> Iterator[Engine]:
    """What carries the jobs of a search out, on either rung; a Ray cluster is up as long as it is open.

    Raises:
        RayFailed: The cluster cannot be had, or has not what a worker asks for.
    """
    config, evaluator = workbench.config, workbench.evaluator
    section = config.search
    if section.engine == "local":
        yield lambda jobs: run_local(jobs, evaluator, section.threads_per_worker)
        return
    code = str(config.task.code_folder) if isinstance(config.task, CustomTask) else ""
    with ray_cluster(section, code):
        yield lambda jobs: run_ray(jobs, evaluator, section)


def explore(
    workbench: Workbench,
    engine: Engine,
    ledger: Ledger,
    base: Evaluation,
    terms: DamageTerms,
    rows: int | None,
    watch: Progress,
) -> str | None:
    """The first rung: candidates proposed and scored on `rows` rows; why it stopped early, or None."""
    section = workbench.config.search
    adviser = None

    def refused(candidate: Candidate) -> str | None:
        return refused_by(workbench, ledger.goals, candidate)

    if section.sampler == "ladder":
        watch.stage("predicting damage for the warm start")
        adviser = Refiner.of(workbench, ledger.goals, base, terms, refused)
    population = max(8, min(50, section.evaluations // 4))
    proposer = Proposer(
        workbench.space,
        ledger.goals,
        make_sampler(section.sampler, section.seed, population),
        adviser,
        refused,
        cheapest_within(workbench, ledger.goals),
    )
    references = _reference_jobs(workbench, rows)
    watch.started(max(section.evaluations, 1 + len(references)))
    told = ledger.settled(rung=0)
    for evaluation in told.values():
        proposer.tell(evaluation)
    first = [job for job in references if job.candidate.key not in told]
    first += [
        Job(candidate=e.candidate, kind=e.kind, label=e.label, rows=rows)
        for e in ledger.lost(rung=0).values()
    ]
    deadline = section.time_budget_s
    coordinator = Coordinator(
        proposer=proposer,
        first=first,
        evaluations=section.evaluations,
        batch=section.batch,
        rows=rows,
        tell=ledger.tell,
        told=len(told),
        deadline_s=None if deadline is None else time.monotonic() + deadline,
    )
    watch.stage("searching")
    _work(engine, coordinator)
    ledger.over_bound = sum(proposer.over_bound.values())
    return coordinator.stopped


def _reference_jobs(workbench: Workbench, rows: int | None) -> list[Job]:
    name = workbench.space.architectures[0].name
    return [
        Job(
            candidate=uniform(workbench.space, name, bits),
            kind="reference",
            label=label,
            rows=rows,
        )
        for bits, label in ((8, UNIFORM_8_BIT), (4, UNIFORM_4_BIT))
    ]


def rescore(
    workbench: Workbench,
    engine: Engine,
    ledger: Ledger,
    base: Evaluation,
    terms: DamageTerms,
    watch: Progress,
) -> str | None:
    """The leading part of the first rung and the references, on the whole search split.

    Only these make the final front: scores on different rows are never compared. Says why it stopped
    early, or None.
    """
    watch.stage("rescoring the leading candidates on the whole search split")
    first = [e for e in ledger.evaluations if e.rung == 0 and not e.is_failed]
    count = max(1, round(workbench.config.search.promote_fraction * len(first)))
    models = quality_models(first, ledger.goals, base, terms)
    values = believed_values(first, ledger.goals, base, terms, models)
    promoted = {e.key: e for e in first if e.kind == "reference"}
    for each in unbeaten(first, ledger.goals, base.key):
        rivals = rivals_among(first, values, ledger.goals, each, count // _RIVAL_SHARE)
        promoted |= {e.key: e for e in rivals}
    promoted |= {e.key: e for e in leading(first, values, ledger.goals, count)}
    done = ledger.settled(rung=1)
    jobs = [
        Job(candidate=e.candidate, kind=e.kind, label=e.label, rung=1)
        for e in promoted.values()
        if e.key not in done
    ]
    watch.started(len(ledger.evaluations) + len(jobs))
    coordinator = Coordinator(
        proposer=None, first=jobs, evaluations=len(jobs), batch=1, rows=None, tell=ledger.tell
    )
    _work(engine, coordinator)
    if coordinator.stopped is None:
        ledger.use_rung(1)
    return coordinator.stopped


def _work(engine: Engine, coordinator: Coordinator) -> None:
    with _stop_on_interrupt(coordinator):
        engine(coordinator)


@contextmanager
def _stop_on_interrupt(coordinator: Coordinator) -> Iterator[None]:
    """Ctrl-C asks no more and lets the running evaluations finish; a second one ends at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        # Between any two bytecodes, even inside `tell`: what `stop` notes is acted on later.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        coordinator.stop(INTERRUPTED)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
