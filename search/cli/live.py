"""A search as it goes, on the terminal: a live panel, or plain lines where there is none."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from paredown.search.report.tables import plain_table
from paredown.search.report.terminal import Terminal, styled
from paredown.search.running.phases import Phases
from paredown.search.running.timetable import STATISTICS, VERIFICATION, Timetable
from paredown.search.study.display import name_of, show, title_of
from paredown.search.study.evaluation import UNCOMPRESSED, Evaluation, Goal, reference
from paredown.search.study.pareto import Front
from paredown.search.study.rows import against

_LAST = 5
_PLAIN_EVERY = 10
_VERIFIED_LINES = 10


@dataclass
class _Progress:
    """Everything the panel shows, as the search reports it.

    `total` and `done` count evaluations.
    """

    clock: Callable[[], float]
    started_s: float
    phases: Phases
    stage: str = "starting"
    total: int = 0
    done: int = 0
    failures: int = 0
    front: Front = field(default_factory=lambda: Front(()))
    hypervolume: float = 0.0
    evaluated: list[Evaluation] = field(default_factory=list)
    last: deque[Evaluation] = field(default_factory=lambda: deque(maxlen=_LAST))

    @property
    def elapsed_s(self) -> float:
        """Seconds since the search began."""
        return self.clock() - self.started_s

    @property
    def left_s(self) -> float | None:
        """Seconds until the end of all phases, None before anything is known of them."""
        return self.phases.left_s(len(self.front.members))


class Display:
    """Watches a search on `console`; a context manager, as the terminal must be given back.

    Args:
        is_verbose: Every evaluation gets a line, also above the panel.
    """

    def __init__(
        self,
        console: Terminal,
        clock: Callable[[], float] = time.monotonic,
        *,
        is_verbose: bool = False,
    ) -> None:
        self._console = console
        self._is_verbose = is_verbose
        self._progress = _Progress(clock=clock, started_s=clock(), phases=Phases(clock))
        self._progress.phases.begin(STATISTICS)
        self._live = Live(
            console=console, get_renderable=self._panel, refresh_per_second=4, transient=True
        )

    def __enter__(self) -> Display:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the display was made."""
        return self._progress.elapsed_s

    def planned(self, table: Timetable) -> None:
        """How long the search is expected to take."""
        self._progress.phases.plan(table)
        self._console.print(
            f"{clock_text(self._progress.elapsed_s)}  {table.text}", soft_wrap=True
        )

    def started(self, total: int) -> None:
        """`total` evaluations are asked for, those of a resumed run included."""
        progress = self._progress
        progress.phases.begin_scoring(total, progress.done)
        progress.total = total

    def verifying(self, total: int) -> None:
        """The search is over, and `total` models of its front are exported and verified now."""
        self._progress.phases.begin(VERIFICATION, total)
        self._say(f"exporting and verifying {total} models")

    def verified(self, check: object, done: int, total: int) -> None:
        """The `done`-th of `total` models of the front was exported and verified."""
        progress = self._progress
        progress.phases.advance(done)
        progress.stage = f"verified {done}/{total}"
        # About ten lines in a log, however large the front.
        if done == total or done % max(1, total // _VERIFIED_LINES) == 0:
            self._log(f"verified {done}/{total}{_left(progress)}")

    def _say(self, text: str) -> None:
        self._progress.stage = text
        self._log(text)

    def _log(self, text: str) -> None:
        """A line where there is no panel."""
        if self._is_verbose or not self._console.is_terminal:
            line = f"{clock_text(self._progress.elapsed_s)}  {text}"
            self._console.print(line, soft_wrap=True)

    def stage(self, text: str) -> None:
        """The search now does `text`."""
        self._say(text)

    def notice(self, text: str) -> None:
        """Something that was converted, or is probably not meant: stays on the terminal."""
        self._console.print(f"note: {text}", style="yellow", soft_wrap=True)

    def told(self, evaluation: Evaluation, front: Front, hypervolume: float, done: int) -> None:
        """`evaluation` has finished, the `done`-th of all."""
        progress = self._progress
        progress.front, progress.hypervolume, progress.done = front, hypervolume, done
        progress.phases.advance(done)
        progress.failures += evaluation.is_failed
        progress.evaluated.append(evaluation)
        progress.last.appendleft(evaluation)
        is_due = done % _PLAIN_EVERY == 0 or done == progress.total or evaluation.is_failed
        if self._is_verbose or (is_due and not self._console.is_terminal):
            self._console.print(plain_line(progress, evaluation), soft_wrap=True)

    def finished(self, result: object) -> None:
        """The search is over; the panel goes, the caller prints the summary."""
        self._live.stop()

    def _panel(self) -> RenderableType:
        progress = self._progress
        parts: list[RenderableType] = [_phase_bars(progress), _standing(progress)]
        if progress.front.members:
            parts += ["", _best(progress)]
        if progress.last:
            parts += ["", _last_table(progress)]
        return Panel(Group(*parts), title="paredown", title_align="left", border_style="dim")


def clock_text(seconds: float) -> str:
    """Minutes and seconds.

    >>> clock_text(83.4), clock_text(4000)
    ('1:23', '1:06:40')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def plain_line(progress: _Progress, evaluation: Evaluation) -> str:
    """One line for a log: where the search stands, or which evaluation failed and why."""
    if evaluation.failure is not None:
        why = evaluation.failure.sentence
        return f"{clock_text(progress.elapsed_s)}  {evaluation.key} failed: {why}"
    best = [
        f"{title_of(goal.metric)} {show(goal.metric, member.metrics[goal.metric])}"
        for goal, member in _best_members(progress.front)
    ]
    done = f"{progress.done}/{progress.total} evaluations{_left(progress)}"
    return (
        f"{clock_text(progress.elapsed_s)}  {done}; "
        f"front {len(progress.front.members)}, hypervolume {progress.hypervolume:.4f}; "
        f"best {', '.join(best) or 'none yet'}"
    )


def _left(progress: _Progress) -> str:
    return "" if progress.left_s is None else f", {clock_text(progress.left_s)} left"


def _phase_bars(progress: _Progress) -> Table:
    """A bar for each phase, those to come included."""
    now_s = progress.clock()
    grid = Table.grid(padding=(0, 2))
    for name, phase in progress.phases.shown.items():
        count = f"{phase.done}/{phase.total}" if phase.total else ""
        begun_s, left_s = phase.begun_s, phase.left_s(now_s)
        time_text = ""
        if begun_s is not None:
            time_text = clock_text((phase.ended_s or now_s) - begun_s)
        elif left_s is not None:
            time_text = f"about {clock_text(left_s)}"
        bar = ProgressBar(total=1.0, completed=phase.share(now_s), width=28)
        grid.add_row(name, bar, styled(count, "bold"), time_text)
    return grid


def _standing(progress: _Progress) -> Table:
    left = "–" if progress.left_s is None else clock_text(progress.left_s)
    failures = progress.failures and styled(f"{progress.failures} failed", "red")
    grid = Table.grid(padding=(0, 2))
    grid.add_row(
        styled(progress.stage, "cyan"),
        f"{clock_text(progress.elapsed_s)} passed",
        styled(f"{left} left", "bold"),
        failures or "none failed",
        Text.assemble("front ", (f"{len(progress.front.members)}", "bold")),
        Text.assemble("hypervolume ", (f"{progress.hypervolume:.4f}", "bold")),
    )
    return grid


def _best(progress: _Progress) -> Table:
    """Per goal the best member within all bounds, with its other goals beside it."""
    goals = progress.front.goals
    base = reference(tuple(progress.evaluated), UNCOMPRESSED)
    table = plain_table("best of", *(title_of(goal.metric) for goal in goals))
    for aim, member in _best_members(progress.front):
        cells = []
        for goal in goals:
            text = styled(show(goal.metric, member.metrics[goal.metric]), "")
            if base is not None:
                text.append(f" {against(goal, member, base)}", "dim")
            text.style = "bold green" if goal == aim else ""
            cells.append(text)
        table.add_row(title_of(aim.metric) + _bound(aim), *cells)
    return table


def _bound(goal: Goal) -> str:
    if goal.at_least is not None:
        return f" ≥ {show(goal.metric, goal.at_least)}"
    return "" if goal.at_most is None else f" ≤ {show(goal.metric, goal.at_most)}"


def _last_table(progress: _Progress) -> Table:
    goals = progress.front.goals
    table = plain_table("last", *(title_of(goal.metric) for goal in goals), "took")
    for evaluation in progress.last:
        name = name_of(evaluation)
        if evaluation.failure is not None:
            blanks = [""] * max(len(goals) - 1, 0)
            reason = [styled(evaluation.failure.sentence[:60], "red")] if goals else []
            table.add_row(name, *reason, *blanks, f"{evaluation.duration_s:.1f} s")
            continue
        mark = (" ●", "green") if evaluation in progress.front.members else ""
        values = [show(goal.metric, evaluation.metrics[goal.metric]) for goal in goals]
        table.add_row(Text.assemble(name, mark), *values, f"{evaluation.duration_s:.1f} s")
    return table


def _best_members(front: Front) -> list[tuple[Goal, Evaluation]]:
    def _best(goal: Goal) -> Evaluation:
        return min(front.members, key=lambda member: goal.loss(member.metrics[goal.metric]))

    return [(goal, _best(goal)) for goal in front.goals] if front.members else []
