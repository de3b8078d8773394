"""One search from its config to its verified front."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import filelock
import torch

from paredown.search.config.reading import dump_config, load_config
from paredown.search.config.schema import Config
from paredown.search.evaluating.bounds import (
    absolute_goals,
    refuse_too_slow,
    refuse_unreachable,
)
from paredown.search.evaluating.holding import check_metric
from paredown.search.evaluating.rehearsal import rehearse
from paredown.search.evaluating.surveying import survey
from paredown.search.evaluating.unmet import doubtful_bounds
from paredown.search.evaluating.workbench import Workbench, equip
from paredown.search.proposing.optuna_log import quiet_optuna
from paredown.search.proposing.prediction import DamageTerms
from paredown.search.report.page import RunSummary
from paredown.search.running.engine_ray import check_cluster
from paredown.search.running.finish import export_front, log_pages, write_figures, write_pages
from paredown.search.running.ledger import Ledger
from paredown.search.running.searching import INTERRUPTED, explore, open_engine, rescore
from paredown.search.running.timed import Heard, Timed
from paredown.search.running.timetable import Timetable, keep_pace, timetable
from paredown.search.space.found_ranks import write_ranks
from paredown.search.study.bundle_check import BundleCheck
from paredown.search.study.evaluation import Evaluation, Score
from paredown.search.study.journal import JournalError, hold
from paredown.search.study.pareto import Front
from paredown.search.study.run_record import BUNDLES, CONFIG, JOURNAL, LATENCY, RANKS, read_run
from paredown.search.tasks.cache import check_cache
from paredown.search.tracking.store_uri import check_store
from paredown.spaces.system.whole_file import write_text_whole


class Watcher(Heard, Protocol):
    """Is told how a search goes; `paredown.search.cli.live.Display` shows it on a terminal."""

    def finished(self, result: RunResult) -> None:
        """The search is over, with this result."""


class Silent:
    """A watcher that shows nothing."""

    def planned(self, table: Timetable) -> None:
        """Does nothing."""

    def started(self, total: int) -> None:
        """Does nothing."""

    def stage(self, text: str) -> None:
        """Does nothing."""

    def notice(self, text: str) -> None:
        """Does nothing."""

    def told(self, evaluation: Evaluation, front: Front, hypervolume: float, done: int) -> None:
        """Does nothing."""

    def verifying(self, total: int) -> None:
        """Does nothing."""

    def verified(self, check: BundleCheck, done: int, total: int) -> None:
        """Does nothing."""

    def finished(self, result: RunResult) -> None:
        """Does nothing."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a search leaves: its folder, all evaluations, the front and what verifying it found.

    `problems` says what is not in MLflow; the folder has it all.
    """

    folder: Path
    evaluations: tuple[Evaluation, ...]
    front: Front
    bundles: tuple[BundleCheck, ...]
    interrupted: bool
    problems: tuple[str, ...] = ()


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
    # Before there is a study: latencies and ranks of another search must not get under this one's.
    lock = hold(folder / JOURNAL)
    try:
        _claim(folder, resume)
        with quiet_optuna():
            return _carry_out(config, folder, lock, resume, watch)
    finally:
        lock.release()


def _carry_out(
    config: Config, folder: Path, lock: filelock.BaseFileLock, resume: bool, watch: Watcher
) -> RunResult:
    """The search in `folder`, whose journal `lock` holds."""
    check_store(config)
    check_cache()
    if config.search.engine == "ray":
        check_cluster(config.search)
    torch.set_num_threads(config.search.threads_per_worker)
    started_s = time.monotonic()
    timed = Timed(watch)
    done = len(read_run(folder).evaluations) if resume and (folder / JOURNAL).exists() else 0
    workbench, own = _prepared(config, folder, timed, done)
    rows = _first_rows(workbench)
    # Relative bounds need it before the search starts.
    base = workbench.evaluate_uncompressed(rows)
    task = workbench.task
    tried = rows or len(task.splits.search)
    check_metric(task, base.metrics[task.metric.name], own.metric, tried)
    goals = absolute_goals(config.goals, base.metrics)
    ledger = Ledger.open(workbench, goals, folder, timed, resume=resume, lock=lock)
    # Only now: a refused resumption leaves the earlier config as it was.
    write_text_whole(folder / CONFIG, dump_config(config))
    if workbench.ranks.to_json():
        write_ranks(folder / RANKS, workbench.ranks)
    sitting = _Sitting(workbench, ledger, folder, timed, started_s)
    try:
        ledger.start(base)
        stopped = sitting.carry_out(base, rows)
        if stopped is None and (pace := timed.pace) is not None:
            keep_pace(config, pace)
        sitting.write(stopped)
        ledger.close("KILLED" if stopped == INTERRUPTED else "FINISHED")
    except BaseException as error:
        ledger.close("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    result = RunResult(
        folder=folder,
        evaluations=tuple(ledger.evaluations),
        front=ledger.front,
        bundles=tuple(sitting.checks),
        interrupted=stopped == INTERRUPTED,
        problems=ledger.tracker.problems,
    )
    watch.finished(result)
    return result


def _prepared(config: Config, folder: Path, watch: Timed, done: int) -> tuple[Workbench, Score]:
    """The workbench, once all that can be refused cheaply has been looked at, and the module's score."""
    watch.stage("reading the model")
    surveyed = survey(config, folder / RANKS)
    task = surveyed.task
    for notice in task.notices:
        watch.notice(notice)
    refuse_unreachable(surveyed)
    watch.stage("trying model, metric and loss on the search split")
    own = rehearse(config, task)
    for doubt in doubtful_bounds(config, task.metric.name, own):
        watch.notice(doubt)
    watch.planned(timetable(surveyed, done))
    watch.stage("collecting statistics, timing sample networks")
    workbench = equip(surveyed, folder / LATENCY)
    refuse_too_slow(workbench)
    return workbench, own


class _Sitting:
    """One search from its first evaluation on, with what verifying its front has found so far."""

    def __init__(
        self,
        workbench: Workbench,
        ledger: Ledger,
        folder: Path,
        watch: Heard,
        started_s: float,
    ) -> None:
        self.checks: list[BundleCheck] = []
        self._workbench = workbench
        self._ledger = ledger
        self._folder = folder
        self._watch = watch
        self._started_s = started_s

    def carry_out(self, base: Evaluation, rows: int | None) -> str | None:
        """Searches, then exports and verifies the front; why it stopped early, or None.

        Ctrl-C at any point of it leaves what is known by then.
        """
        workbench, ledger, watch = self._workbench, self._ledger, self._watch
        try:
            terms = DamageTerms(workbench.databases)
            if workbench.config.search.engine == "ray":
                watch.stage("starting the workers")
            with open_engine(workbench) as engine:
                stopped = explore(workbench, engine, ledger, base, terms, rows, watch)
                if stopped is not None:
                    watch.stage(f"stopped early: {stopped}")
                if rows is not None and stopped != INTERRUPTED:
                    stopped = rescore(workbench, engine, ledger, base, terms, watch) or stopped
            if stopped == INTERRUPTED:
                return stopped
            # Before the export: whatever befalls that, the search has its report.
            self._write_pages(stopped, ())
            total = len(ledger.front.members)
            watch.verifying(total)
            for done, check in enumerate(export_front(workbench, ledger, self._folder), 1):
                self.checks.append(check)
                watch.verified(check, done, total)
        except KeyboardInterrupt:
            return INTERRUPTED
        return stopped

    def write(self, stopped: str | None) -> None:
        """The pages with all that is known now, in the folder and in MLflow."""
        self._watch.stage("writing the report")
        tracker = self._ledger.tracker
        # What is merely on its way to MLflow is not told as missing there.
        tracker.drain()
        summary = self._write_pages(stopped, tracker.problems)
        pictures = write_figures(self._workbench, self._ledger, self._folder, self.checks)
        log_pages(tracker, self._folder, summary, pictures)

    def _write_pages(self, stopped: str | None, problems: tuple[str, ...]) -> RunSummary:
        # A resumed run that is interrupted again keeps the front it had: `paredown front` shows it.
        rung = read_run(self._folder).front.rung
        if self._ledger.front.rung != rung:
            self._ledger.use_rung(rung)
        notes = [*problems]
        if stopped is not None:
            notes.append(f"stopped early: {stopped}")
        seconds = time.monotonic() - self._started_s
        return write_pages(
            self._workbench, self._ledger, self._folder, tuple(self.checks), seconds, notes
        )


def _claim(folder: Path, resume: bool) -> None:
    """Refuses a folder that holds another run, before anything is loaded; tidies it otherwise."""
    has_study = (folder / JOURNAL).exists() and (folder / JOURNAL).stat().st_size > 0
    if has_study and not resume:
        raise JournalError(
            f"a search starts in an empty run folder, got a study in {folder}; "
            "add --resume to go on with it, or choose another `name` or `output.folder`"
        )
    if not has_study:
        # Of a search that ended before its study began: its times and ranks are not this one's.
        for name in (LATENCY, RANKS):
            (folder / name).unlink(missing_ok=True)
    # What a search that was killed had begun to write; a bundle goes by its key of twelve digits.
    for file in folder.glob(".*.part"):
        file.unlink()
    for staged in (folder / BUNDLES).glob(f".{'[0-9a-f]' * 12}-*"):
        shutil.rmtree(staged)


def _first_rows(workbench: Workbench) -> int | None:
    """Rows of the first rung; None where that is the whole search split, so that one rung is all."""
    wanted = workbench.config.search.rung_images
    return wanted if wanted < len(workbench.task.splits.search) else None
