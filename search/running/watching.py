"""Who is notified of a search as it goes: a watcher, and on the way to it what times the search."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from paredown.search.running.phases import Phases
from paredown.search.running.timetable import STATISTICS, VERIFICATION, Pace, Timetable
from paredown.search.study.bundle_check import BundleCheck
from paredown.search.study.evaluation import Evaluation
from paredown.search.study.pareto import Front


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


class Heard(Protocol):
    """Is notified of the phases of a search and of what they bring."""

    def planned(self, table: Timetable) -> None:
        """Reports the expected duration of each phase."""

    def started(self, total: int) -> None:
        """Scoring begins, for `total` evaluations including those already done."""

    def stage(self, text: str) -> None:
        """The search enters the stage described by `text`."""

    def notice(self, text: str) -> None:
        """Reports something about the model or the goals that the user should know."""

    def told(self, evaluation: Evaluation, front: Front, hypervolume: float, done: int) -> None:
        """Reports a finished evaluation, the front and its hypervolume, and how many are done."""

    def verifying(self, total: int) -> None:
        """Export and verification of the front's `total` models begin."""

    def verified(self, check: BundleCheck, done: int, total: int) -> None:
        """Reports the check of the `done`-th of `total` models."""


class Watcher(Heard, Protocol):
    """Is notified how a search goes; `paredown.search.cli.live.Display` shows it on a terminal."""

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


class Timed:
    """Passes all on to `watch`, and notes when each phase began and ended, so that the next search like
    it can say how long it will take."""

    def __init__(self, watch: Heard, clock: Callable[[], float] = time.monotonic) -> None:
        self._watch = watch
        self._done = 0
        self._worked_s = 0.0
        self._begun_s = self._planned_s = self._known_s = clock()
        self._search_begun_s: float | None = None
        self._search_ended_s: float | None = None
        self._clock = clock
        self._phases = Phases(clock)
        self._phases.begin(STATISTICS)

    @property
    def pace(self) -> Pace | None:
        """What the phases took, once all are over."""
        return self._phases.pace()

    def seconds(self, evaluations: Sequence[Evaluation], workers: int) -> Mapping[str, float]:
        """Where the time went: seconds by what they went into, without those that are 0.

        Of evaluations these are summed over all workers, those of earlier sessions included. "other" is
        what failed ones took, and those that earlier versions recorded; "waiting", what workers did not
        work in this session: starting, proposing, no candidate left, and trainings that were lost with
        their workers. The uncompressed model is scored within "statistics".
        """
        scored = evaluations[1:]
        found = {
            "reading": self._planned_s - self._begun_s,
            STATISTICS: self._known_s - self._planned_s,
            "predicting": 0.0
            if self._search_begun_s is None
            else self._search_begun_s - self._known_s,
            "solving": sum(e.spent.solving_s for e in scored),
            "training": sum(e.spent.training_s for e in scored),
            "scoring": sum(e.spent.scoring_s for e in scored),
            "other": sum(e.duration_s for e in scored if not e.spent.total_s),
            "waiting": self._searched_s() * workers - self._worked_s,
            VERIFICATION: self._phases.took_s(VERIFICATION),
        }
        return {name: seconds for name, seconds in found.items() if seconds > 0}

    def _searched_s(self) -> float:
        if self._search_begun_s is None:
            return 0.0
        ended_s = self._clock() if self._search_ended_s is None else self._search_ended_s
        return ended_s - self._search_begun_s

    def planned(self, table: Timetable) -> None:
        """Notes that all is read, and passes the timetable on."""
        self._planned_s = self._known_s = self._clock()
        self._watch.planned(table)

    def started(self, total: int) -> None:
        """Notes that searching or rescoring begins, and passes it on."""
        if self._search_begun_s is None:
            self._search_begun_s = self._clock()
        self._phases.begin_scoring(total, self._done)
        self._watch.started(total)

    def stage(self, text: str) -> None:
        """Passes the stage on."""
        self._watch.stage(text)

    def notice(self, text: str) -> None:
        """Passes the notice on."""
        self._watch.notice(text)

    def told(self, evaluation: Evaluation, front: Front, hypervolume: float, done: int) -> None:
        """Counts the evaluation as progress of the current phase, and passes it on."""
        self._done = done
        if self._search_begun_s is None:
            self._known_s = self._clock()
        else:
            self._worked_s += evaluation.duration_s
        self._phases.advance(done)
        self._watch.told(evaluation, front, hypervolume, done)

    def verifying(self, total: int) -> None:
        """Notes that verification begins, and passes it on."""
        self._search_ended_s = self._clock()
        self._phases.begin(VERIFICATION, total)
        self._watch.verifying(total)

    def verified(self, check: BundleCheck, done: int, total: int) -> None:
        """Counts the model as progress of the verification, and passes it on."""
        self._phases.advance(done)
        self._watch.verified(check, done, total)
