"""A search timed as it goes, so that the next like it can say how long it will take."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from paredown.search.running.phases import Phases
from paredown.search.running.timetable import STATISTICS, VERIFICATION, Pace, Timetable
from paredown.search.study.bundle_check import BundleCheck
from paredown.search.study.evaluation import Evaluation
from paredown.search.study.pareto import Front


class Heard(Protocol):
    """Is told of the phases of a search and of what they bring."""

    def planned(self, table: Timetable) -> None: ...

    def started(self, total: int) -> None: ...

    def stage(self, text: str) -> None: ...

    def notice(self, text: str) -> None: ...

    def told(
        self, evaluation: Evaluation, front: Front, hypervolume: float, done: int
    ) -> None: ...

    def verifying(self, total: int) -> None: ...

    def verified(self, check: BundleCheck, done: int, total: int) -> None: ...


class Timed:
    """Passes all on to `watch`, and notes when each phase began and ended."""

    def __init__(self, watch: Heard, clock: Callable[[], float] = time.monotonic) -> None:
        self._watch = watch
        self._done = 0
        self._phases = Phases(clock)
        self._phases.begin(STATISTICS)

    @property
    def pace(self) -> Pace | None:
        """What the phases took, once all are over."""
        return self._phases.pace()

    def planned(self, table: Timetable) -> None:
        self._watch.planned(table)

    def started(self, total: int) -> None:
        self._phases.begin_scoring(total, self._done)
        self._watch.started(total)

    def stage(self, text: str) -> None:
        self._watch.stage(text)

    def notice(self, text: str) -> None:
        self._watch.notice(text)

    def told(self, evaluation: Evaluation, front: Front, hypervolume: float, done: int) -> None:
        self._done = done
        self._phases.advance(done)
        self._watch.told(evaluation, front, hypervolume, done)

    def verifying(self, total: int) -> None:
        self._phases.begin(VERIFICATION, total)
        self._watch.verifying(total)

    def verified(self, check: BundleCheck, done: int, total: int) -> None:
        self._phases.advance(done)
        self._watch.verified(check, done, total)
