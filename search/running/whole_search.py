"""One search from its config to its verified front."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import filelock

from paredown.compressors.training.kept import TrainedModels
from paredown.search.config.reading import dump_config, load_config
from paredown.search.config.schema import Config
from paredown.search.evaluating.bounds import absolute_goals, refuse_too_slow, refuse_unreachable
from paredown.search.evaluating.computing_device import computing_device, prepare_process
from paredown.search.evaluating.holding import check_metric
from paredown.search.evaluating.recovery import Recovery, check_training, configured_recovery
from paredown.search.evaluating.rehearsal import rehearse
from paredown.search.evaluating.surveying import survey
from paredown.search.evaluating.unmet import doubtful_bounds
from paredown.search.evaluating.workbench import Workbench, equip
from paredown.search.proposing.given import keep_initial
from paredown.search.proposing.optuna_log import quiet_optuna
from paredown.search.proposing.prior import keep_earlier_runs
from paredown.search.proposing.samplers import check_sampler
from paredown.search.running.course import Course
from paredown.search.running.engines.engine_ray import check_cluster
from paredown.search.running.ledger import Ledger
from paredown.search.running.timetable import check_budget, doubtful_room, timetable
from paredown.search.running.watching import RunResult, Silent, Timed, Watcher
from paredown.search.running.working import INTERRUPTED
from paredown.search.space.found_ranks import write_ranks
from paredown.search.study.evaluation import Evaluation
from paredown.search.study.journal import JournalError, hold
from paredown.search.study.run_record import (
    BUNDLES,
    CONFIG,
    INITIAL,
    JOURNAL,
    LATENCY,
    PRIOR,
    RANKS,
    TRAINED,
    read_run,
)
from paredown.search.tasks.cache import check_cache
from paredown.search.tracking.store_uri import check_store
from paredown.spaces.system.whole_file import write_text_whole


def run(
    config: Config | str | Path,
    *,
    resume: bool = False,
    overrides: Sequence[str] = (),
    watch: Watcher | None = None,
    recovery: Recovery | None = None,
) -> RunResult:
    """Searches, exports the front, verifies every point of it and writes the report.

    Args:
        config: A checked config, or the path of a YAML file.
        resume: Go on with the run in the folder; nothing recorded is evaluated again.
        overrides: `a.b=c` settings over the file's; only with a path.
        recovery: How the leading candidates are trained before they are scored for the front, in place
            of what the config's `recovery` says.

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
            return _Search(config, folder, resume, watch, recovery).carry_out(lock)
    finally:
        lock.release()


@dataclass(frozen=True)
class _Search:
    """What a search was asked for, and the steps to its first evaluation."""

    config: Config
    folder: Path
    resume: bool
    watch: Watcher
    recovery: Recovery | None

    def carry_out(self, lock: filelock.BaseFileLock) -> RunResult:
        """The search in the folder, whose journal `lock` holds."""
        config = self.config
        device = computing_device(config.search)
        check_store(config)
        check_cache()
        if config.search.engine == "ray":
            check_cluster(config.search, is_trained=bool(self.recovery or config.recovery))
        prepare_process(device, config.search.threads_per_worker)
        started_s = time.monotonic()
        timed = Timed(self.watch)
        workbench, base = self._prepared(timed)
        ledger = self._ledger(workbench, base, timed, lock)
        course = Course(workbench, ledger, self.folder, timed, started_s)
        stopped = course.finish(base)
        result = RunResult(
            folder=self.folder,
            evaluations=tuple(ledger.evaluations),
            front=ledger.front,
            bundles=tuple(course.checks),
            interrupted=stopped == INTERRUPTED,
            problems=ledger.tracker.problems,
        )
        self.watch.finished(result)
        return result

    def _prepared(self, watch: Timed) -> tuple[Workbench, Evaluation]:
        """The workbench and the uncompressed model's evaluation.

        All that can be refused cheaply is looked at before what takes time is begun.
        """
        config, folder = self.config, self.folder
        has_run = self.resume and (folder / JOURNAL).exists()
        done = len(read_run(folder).evaluations) if has_run else 0
        keep_earlier_runs(config, folder / PRIOR, is_resumed=has_run)
        watch.stage("reading the model")
        surveyed = survey(config, folder / RANKS)
        task = surveyed.task
        for notice in task.notices:
            watch.notice(notice)
        check_sampler(config, surveyed.space)
        initial = folder / INITIAL
        keep_initial(config.search.initial, surveyed.space, initial, is_resumed=has_run)
        recovery = self.recovery or configured_recovery(config)
        if recovery is not None:
            graphs = [captured.graph for captured in surveyed.captured.values()]
            check_training(recovery, task.splits.search, graphs)
        refuse_unreachable(surveyed)
        watch.stage("trying model, metric and loss on the search split")
        own = rehearse(config, task)
        for doubt in doubtful_bounds(config, task.metric.name, own):
            watch.notice(doubt)
        table = timetable(surveyed, done)
        check_budget(config, table)
        watch.planned(table)
        if lack := doubtful_room(table, folder):
            watch.notice(lack)
        watch.stage("collecting statistics, timing sample networks")
        workbench = equip(surveyed, folder / LATENCY)
        refuse_too_slow(workbench)
        if recovery is not None:
            workbench = workbench.recovering(recovery, TrainedModels(folder / TRAINED))
        # Relative bounds need it before the search starts.
        base = workbench.evaluate_uncompressed(workbench.rungs[0])
        check_metric(task, base.metrics[task.metric.name], own.metric, own.images)
        return workbench, base

    def _ledger(
        self, workbench: Workbench, base: Evaluation, watch: Timed, lock: filelock.BaseFileLock
    ) -> Ledger:
        goals = absolute_goals(self.config.goals, base.metrics)
        ledger = Ledger.open(workbench, goals, self.folder, watch, resume=self.resume, lock=lock)
        # Only now: a refused resumption leaves the earlier config as it was.
        write_text_whole(self.folder / CONFIG, dump_config(self.config))
        if workbench.ranks.to_json():
            write_ranks(self.folder / RANKS, workbench.ranks)
        return ledger


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
        for name in (LATENCY, RANKS, PRIOR):
            (folder / name).unlink(missing_ok=True)
    # What a search that was killed had begun to write; a bundle goes by its key of twelve digits.
    for file in (*folder.glob(".*.part"), *(folder / TRAINED).glob(".*.part")):
        file.unlink()
    for staged in (folder / BUNDLES).glob(f".{'[0-9a-f]' * 12}-*"):
        shutil.rmtree(staged)
