"""The phases of a search as they go: what is done of each, and how long the rest will take."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from paredown.search.running.timetable import (
    RESCORING,
    SEARCH,
    STATISTICS,
    VERIFICATION,
    Pace,
    Timetable,
)

_TRUST = 3
"""As many counted steps as an expectation is worth."""
ORDER = (STATISTICS, SEARCH, RESCORING, VERIFICATION)


@dataclass
class Phase:
    """One phase. `seen` counts what was done since it began, `begun_with` what was done by then."""

    name: str
    expected_s: float | None = None
    total: int = 0
    done: int = 0
    begun_with: int = 0
    seen: int = 0
    begun_s: float | None = None
    ended_s: float | None = None

    def left_s(self, now_s: float) -> float | None:
        """Seconds that the rest takes, by the pace so far and as expected; None if nothing is known."""
        if self.ended_s is not None:
            return 0.0
        elapsed_s = 0.0 if self.begun_s is None else now_s - self.begun_s
        if self.expected_s is None:
            return elapsed_s / self.seen * self._coming if self.seen else None
        if not self.total:
            return max(self.expected_s - elapsed_s, 0.0)
        # The first of many is slower, as it has the start in it: the expectation counts as a few of them.
        each_s = self.expected_s / max(self.total - self.begun_with, 1)
        return (elapsed_s + _TRUST * each_s) / (self.seen + _TRUST) * self._coming

    @property
    def _coming(self) -> int:
        return max(self.total - self.done, 0)

    def share(self, now_s: float) -> float:
        """How much of it is done, in [0, 1]; by time where nothing is counted."""
        if self.ended_s is not None:
            return 1.0
        if self.total:
            return min(self.done / self.total, 1.0)
        if self.begun_s is None or not self.expected_s:
            return 0.0
        # Only its end makes it whole.
        return min((now_s - self.begun_s) / self.expected_s, 0.95)


@dataclass
class Phases:
    """All phases of one search, in order, at most one of them going on."""

    clock: Callable[[], float]
    by_name: dict[str, Phase] = field(default_factory=lambda: {n: Phase(n) for n in ORDER})
    _models: int = 0

    def plan(self, table: Timetable) -> None:
        """Takes the expected times; a phase without any is not coming."""
        self._models = table.models
        for name, seconds in table.expected_s.items():
            if seconds > 0:
                self.by_name[name].expected_s = seconds
            elif self.by_name[name].begun_s is None and name != SEARCH:
                del self.by_name[name]

    def begin(self, name: str, total: int = 0, done: int = 0) -> None:
        """`name` begins with `done` of `total` done, and what went on before it has ended."""
        now_s = self.clock()
        for phase in self.by_name.values():
            if phase.begun_s is not None and phase.ended_s is None:
                phase.ended_s = now_s
        phase = self.by_name.setdefault(name, Phase(name))
        phase.total, phase.done, phase.begun_with, phase.seen = total, done, done, 0
        phase.begun_s, phase.ended_s = now_s, None

    def begin_scoring(self, total: int, done: int) -> None:
        """The search begins, or, where it has been, rescoring: at a pace of its own."""
        has_searched = self.by_name[SEARCH].begun_s is not None
        self.begin(RESCORING if has_searched else SEARCH, total, done)

    def advance(self, done: int) -> None:
        """`done` of the phase that goes on is done; with all of it done it has ended."""
        phase = self.current
        if phase is None or not phase.total:
            # What a resumed search had done before.
            return
        phase.done = done
        phase.seen += 1
        if done >= phase.total:
            phase.ended_s = self.clock()

    @property
    def current(self) -> Phase | None:
        """The phase in progress, or None between phases."""
        going = [p for p in self.by_name.values() if p.begun_s is not None and p.ended_s is None]
        return going[-1] if going else None

    def left_s(self, front: int) -> float | None:
        """Seconds until the very end, for a front of so many models by now; None where it is unknown.

        What comes after the phase that goes on is taken as expected; each model of the front is
        verified.
        """
        now_s, left = self.clock(), 0.0
        current = self.current
        for phase in self.by_name.values():
            seconds = phase.left_s(now_s)
            if seconds is None and phase is not current:
                # Nobody has said how long that takes.
                continue
            if seconds is None:
                return None
            is_coming = phase.begun_s is None and phase.name == VERIFICATION
            if is_coming and front and self._models:
                seconds *= front / self._models
            left += seconds
        return left

    @property
    def shown(self) -> Mapping[str, Phase]:
        """Those that were planned or have begun."""
        return {
            name: phase
            for name, phase in self.by_name.items()
            if phase.expected_s is not None or phase.begun_s is not None
        }

    def took_s(self, name: str) -> float:
        """Seconds of a phase so far; 0 where it has not begun."""
        phase = self.by_name.get(name)
        if phase is None or phase.begun_s is None:
            return 0.0
        return (self.clock() if phase.ended_s is None else phase.ended_s) - phase.begun_s

    def pace(self) -> Pace | None:
        """What the phases took; None where not all were carried out: in a resumed or stopped search."""
        search, check = self.by_name[SEARCH], self.by_name.get(VERIFICATION)
        rescored = self.by_name.get(RESCORING)
        # One was told before it began: the uncompressed model.
        if check is None or search.begun_with > 1 or not (search.seen and check.seen):
            return None
        if search.done < search.total or check.done < check.total:
            return None
        return Pace(
            statistics_s=_took_s(self.by_name[STATISTICS]),
            evaluation_s=_took_s(search) / search.seen,
            rescoring_s=_took_s(rescored) / rescored.seen if rescored and rescored.seen else 0.0,
            model_s=_took_s(check) / check.seen,
            models=check.total / math.sqrt(search.total),
        )


def _took_s(phase: Phase) -> float:
    assert phase.begun_s is not None
    assert phase.ended_s is not None
    return phase.ended_s - phase.begun_s
