"""Carries jobs out in processes on this machine, which live as long as the search.

A process that ends takes one candidate with it, whose failure is reported, and is replaced.
"""

from __future__ import annotations

import queue
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from paredown.search.config.schema import SearchSection
from paredown.search.evaluating.scoring import Evaluator
from paredown.search.proposing.coordinator import MOST_LOST, Coordinator
from paredown.search.proposing.jobs import Job, Outcome
from paredown.search.running.engines.evaluation_process import (
    EvaluationProcess,
    Replies,
    write_evaluator,
)
from paredown.spaces.system.errors import ParedownError
from paredown.spaces.system.scratch import scratch_folder


class ProcessesEndedError(ParedownError):
    """Processes that evaluate end, or do not begin."""


@contextmanager
def local_engine(evaluator: Evaluator, section: SearchSection) -> Iterator[LocalEngine]:
    """The engine of a search; its processes are ended with it."""
    with scratch_folder() as folder:
        write_evaluator(evaluator, folder)
        engine = LocalEngine(folder, section)
        try:
            yield engine
        finally:
            engine.close()


class LocalEngine:
    """`search.workers` processes, each started when there is a job for it."""

    def __init__(self, folder: Path, section: SearchSection) -> None:
        self._folder = folder
        self._section = section
        self._replies: Replies = queue.Queue()
        self._processes: list[EvaluationProcess] = []
        self._helped: Counter[str] = Counter()

    def run(self, coordinator: Coordinator) -> None:
        """Works until the coordinator has nothing more to do.

        Raises:
            ProcessesEndedError: One did not begin, or one after the other ended.
        """
        while not coordinator.is_done:
            while self._has_room and (job := coordinator.next()) is not None:
                self._free_process().start(job)
            self._help()
            if any(process.job for process in self._processes):
                finished = self._wait()
                if finished is not None:
                    coordinator.finish(*finished)
                _check(coordinator)

    def close(self) -> None:
        """End all processes."""
        for process in self._processes:
            process.close()

    @property
    def _has_room(self) -> bool:
        return sum(not each.is_free for each in self._processes) < self._section.workers

    def _help(self) -> None:
        """Processes without a job solve layers of those that others carry out, each job once for each."""
        running = [process.job for process in self._processes if process.job is not None]
        for process in self._processes:
            if not (process.is_ready and process.is_free) or not running:
                continue
            job = min(running, key=lambda each: self._helped[each.name])
            if self._helped[job.name] < self._section.workers - 1:
                self._helped[job.name] += 1
                process.help(job)

    def _free_process(self) -> EvaluationProcess:
        for process in self._processes:
            if process.is_free:
                return process
        made = EvaluationProcess(self._folder, self._section.threads_per_worker, self._replies)
        self._processes.append(made)
        return made

    def _wait(self) -> tuple[Job, Outcome] | None:
        """A job that is finished, with its outcome; None where a process only began, or ended idle.

        Raises:
            ProcessesEndedError: As `run`.
        """
        process, reply = self._replies.get()
        if reply is None:
            return self._replace(process)
        if not process.is_ready:
            process.begin()
            return None
        if process.is_helping:
            process.helped()
            return None
        return process.finish(), Outcome.from_json(reply)

    def _replace(self, process: EvaluationProcess) -> tuple[Job, Outcome] | None:
        """The failure of the job that a process ended in; another one is started when it is needed."""
        self._processes.remove(process)
        process.close()
        if not process.is_ready:
            raise ProcessesEndedError(
                f"a process that evaluates candidates must begin, got {process.ending()}"
                f"{process.last_words()}\nmend that, then go on with --resume"
            )
        if process.job is None:
            return None
        outcome = process.ended()
        return process.finish(), outcome


def _check(coordinator: Coordinator) -> None:
    if coordinator.lost_in_row >= MOST_LOST:
        raise ProcessesEndedError(
            "a process must live for longer than one candidate, got "
            f"{coordinator.lost_in_row} in a row that ended, the last so:\n{coordinator.last_lost}\n"
            "mend that, then go on with --resume"
        )
