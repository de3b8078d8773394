"""One search from its config to its verified front."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from paredown.hardware_models.whole_file import write_text_whole
from paredown.search.belief import believed_values, quality_models
from paredown.search.bounds import absolute_goals, refused_by
from paredown.search.config import dump_config, load_config
from paredown.search.coordinator import Coordinator, Job
from paredown.search.engine_local import run_local
from paredown.search.engine_ray import run_ray
from paredown.search.evaluation import UNIFORM_8_BIT, Evaluation
from paredown.search.finish import export_front, write_pages
from paredown.search.journal import JournalError
from paredown.search.latency_source import uniform
from paredown.search.ledger import Ledger
from paredown.search.pareto import Front
from paredown.search.prediction import DamageTerms
from paredown.search.promotion import leading
from paredown.search.proposer import Proposer, make_sampler
from paredown.search.refiner import Refiner
from paredown.search.report import BundleCheck
from paredown.search.run_record import CONFIG, JOURNAL, LATENCY
from paredown.search.schema import Config
from paredown.search.schema_task import CustomTask
from paredown.search.workbench import Workbench, prepare
from paredown.spaces.candidate import Candidate

UNIFORM_4_BIT = "uniform 4-bit"


class Watcher(Protocol):
    """Is told how a search goes; `paredown.search.live.Display` shows it on a terminal."""

    def started(self, total: int) -> None: ...

    def stage(self, text: str) -> None: ...

    def told(
        self, evaluation: Evaluation, front: Front, hypervolume: float, done: int
    ) -> None: ...

    def finished(self, result: RunResult) -> None: ...


class Silent:
    """A watcher that shows nothing."""

    def started(self, total: int) -> None:
        return None

    def stage(self, text: str) -> None:
        return None

    def told(self, evaluation: Evaluation, front: Front, hypervolume: float, done: int) -> None:
        return None

    def finished(self, result: RunResult) -> None:
        return None


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a search leaves: its folder, all evaluations, the front and what verifying it found."""

    folder: Path
    evaluations: tuple[Evaluation, ...]
    front: Front
    bundles: tuple[BundleCheck, ...]
    interrupted: bool


def run(
    config: Config | str | Path,
    *,
    resume: bool = False,
    overrides: Sequence[str] = (),
    watch: Watcher | None = None,
) -> RunResult:
    """Searches, exports the front, verifies every point of it and writes the report.

    Args:
        config: A checked config, or the path of a YAML file.
        resume: Go on with the run in the folder; nothing told is evaluated again.
        overrides: `a.b=c` settings over the file's; only with a path.

    Raises:
        ConfigError, TaskError, JournalError, ...: What the config asks for cannot be had; all derive
            from ValueError and are raised before anything expensive starts where that is possible.
    """
    if not isinstance(config, Config):
        config = load_config(config, overrides)
    watch = watch or Silent()
    folder = config.output.folder / config.name
    _claim(folder, resume)
    torch.set_num_threads(config.search.threads_per_worker)
    started_s = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    watch.stage("reading the model, collecting statistics, timing sample networks")
    workbench = prepare(config, folder / LATENCY)
    rows = _first_rows(workbench)
    # Relative bounds need it before the search starts.
    base = workbench.evaluate_uncompressed(rows)
    goals = absolute_goals(config.goals, base.metrics)
    ledger = Ledger.open(workbench, goals, folder, watch, resume=resume)
    # Only now is the folder ours: a refused resumption leaves the earlier config as it was.
    write_text_whole(folder / CONFIG, dump_config(config))
    try:
        terms = DamageTerms(workbench.databases)
        coordinator = _search(workbench, ledger, base, terms, rows, watch)
        interrupted = coordinator.stopped == _INTERRUPTED
        if coordinator.stopped is not None:
            watch.stage(f"stopped early: {coordinator.stopped}")
        if rows is not None and not interrupted:
            interrupted = _rescore(workbench, ledger, base, terms, watch)
        checks: tuple[BundleCheck, ...] = ()
        if not interrupted:
            watch.stage(f"exporting and verifying {len(ledger.front.members)} models")
            checks = export_front(workbench, ledger, folder)
        watch.stage("writing the report")
        seconds = time.monotonic() - started_s
        stopped = _INTERRUPTED if interrupted else coordinator.stopped
        write_pages(workbench, ledger, folder, checks, seconds, stopped)
        ledger.close("KILLED" if interrupted else "FINISHED")
    except BaseException:
        ledger.close("FAILED")
        raise
    result = RunResult(
        folder=folder,
        evaluations=tuple(ledger.evaluations),
        front=ledger.front,
        bundles=checks,
        interrupted=interrupted,
    )
    watch.finished(result)
    return result


_INTERRUPTED = "interrupted"


def _claim(folder: Path, resume: bool) -> None:
    """Refuses a folder that holds another run, before anything is loaded."""
    has_study = (folder / JOURNAL).exists() and (folder / JOURNAL).stat().st_size > 0
    if has_study and not resume:
        raise JournalError(
            f"a search starts in an empty run folder, got a study in {folder}; "
            "add --resume to go on with it, or choose another `name` or `output.folder`"
        )
    if not has_study:
        # Of a search that ended before its study began: its times are not this one's.
        (folder / LATENCY).unlink(missing_ok=True)


def _first_rows(workbench: Workbench) -> int | None:
    """Rows of the first rung; None where that is the whole search split, so that one rung is all."""
    wanted = workbench.config.search.rung_images
    return wanted if wanted < len(workbench.task.splits.search) else None


def _search(
    workbench: Workbench,
    ledger: Ledger,
    base: Evaluation,
    terms: DamageTerms,
    rows: int | None,
    watch: Watcher,
) -> Coordinator:
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
    )
    references = _reference_jobs(workbench, rows)
    watch.started(max(section.evaluations, 1 + len(references)))
    ledger.start(base)
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
    _work(workbench, coordinator)
    ledger.over_bound = sum(proposer.over_bound.values())
    return coordinator


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


def _rescore(
    workbench: Workbench, ledger: Ledger, base: Evaluation, terms: DamageTerms, watch: Watcher
) -> bool:
    """The leading part of the first rung and the references, on the whole search split.

    Only these make the final front: scores on different rows are never compared.
    """
    watch.stage("rescoring the leading candidates on the whole search split")
    first = [e for e in ledger.evaluations if e.rung == 0 and not e.is_failed]
    count = max(1, round(workbench.config.search.promote_fraction * len(first)))
    models = quality_models(first, ledger.goals, base, terms)
    values = believed_values(first, ledger.goals, base, terms, models)
    promoted = {e.key: e for e in first if e.kind == "reference"} | {
        e.key: e for e in leading(first, values, ledger.goals, count)
    }
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
    _work(workbench, coordinator)
    if coordinator.stopped == _INTERRUPTED:
        return True
    ledger.use_rung(1)
    return False


def _work(workbench: Workbench, coordinator: Coordinator) -> None:
    section = workbench.config.search
    with _stop_on_interrupt(coordinator):
        if section.engine == "ray":
            # Tune gives an actor up, and all it has solved, unless the next trial waits already.
            coordinator.ahead = section.workers
            task = workbench.config.task
            code = str(task.code_folder) if isinstance(task, CustomTask) else ""
            run_ray(coordinator, workbench.evaluator, section, code)
        else:
            run_local(coordinator, workbench.evaluator, section.threads_per_worker)


@contextmanager
def _stop_on_interrupt(coordinator: Coordinator) -> Iterator[None]:
    """Ctrl-C asks no more and lets the running evaluations finish; a second one ends at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        coordinator.stop(_INTERRUPTED)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
