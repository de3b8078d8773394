"""The command `paredown bench`: samplers and parts of a space against each other, at equal budgets."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paredown.search.cli.application import is_verbose, progress, results
from paredown.search.cli.endings import INTERRUPTED, mistake

if TYPE_CHECKING:
    from paredown.search.report.terminal import Terminal
    from paredown.search.running.benching.result import Run
    from paredown.search.study.evaluation import Evaluation, Goal

BENCH_EXAMPLES = (
    "paredown bench examples/digits.yaml",
    "paredown bench examples/digits.yaml --arms 'tpe*,pareto,uniforms' --evaluations 50,200",
    "paredown bench my.yaml --set hardware.latency=roofline --pool best_known.jsonl",
)
_EVERY_S = 15.0

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="The search as one YAML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Replace a setting; may be given often."),
]
Arms = Annotated[
    str | None,
    typer.Option(metavar="NAME,...", help="Arms to compare, by name or glob; all by default."),
]
Seeds = Annotated[int, typer.Option(min=1, max=1000, help="Seeds, from search.seed on.")]
Budgets = Annotated[
    str | None,
    typer.Option(
        metavar="N,...",
        help="Evaluations of a run, all counted; each number a run of its own. By default "
        "search.evaluations.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the outcomes and the tables; by default NAME-bench among the runs."
    ),
]
Pool = Annotated[
    Path | None,
    typer.Option(
        help="The best front known, as JSON lines: shares are of it, and what enters it joins."
    ),
]


def bench(
    config: ConfigFile,
    arms: Arms = None,
    seeds: Seeds = 3,
    evaluations: Budgets = None,
    out: Out = None,
    pool: Pool = None,
    overrides: Overrides = None,
) -> None:
    """Compare samplers and parts of the space by the volume that their fronts dominate.

    All get equal budgets. Each candidate is scored once for all, on the first rung, without training.

    Scores are kept in --out: the same command goes on where a bench was stopped, for next to nothing.
    """
    from paredown.search.config.reading import load_config

    checked = load_config(config, overrides or ())
    budgets = _budgets(evaluations)
    from paredown.search.running.benching.page import write_tables
    from paredown.search.running.benching.tables import bench_table
    from paredown.search.running.benching.whole_bench import BenchPlan
    from paredown.search.running.benching.whole_bench import bench as compare

    lines = _Lines(progress(), is_verbose=is_verbose())
    plan = BenchPlan(
        folder=out or checked.output.folder / f"{checked.name}-bench",
        pool=pool,
        arms=() if arms is None else tuple(arms.split(",")),
        seeds=seeds,
        budgets=budgets,
    )
    result = compare(checked, plan, lines)
    page = write_tables(plan.folder, result)
    results().print(bench_table(result))
    progress().print(f"page: {page}", soft_wrap=True)
    if not result.is_whole:
        progress().print("interrupted; the same command goes on", soft_wrap=True)
        raise typer.Exit(INTERRUPTED)


def _budgets(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise mistake(f"--evaluations must be numbers above 0, got {text!r}; write 50,200")
    return tuple(sorted({int(part) for part in parts}))


class _Lines:
    """A bench as it goes, in lines."""

    def __init__(
        self,
        console: Terminal,
        clock: Callable[[], float] = time.monotonic,
        *,
        is_verbose: bool = False,
    ) -> None:
        self._console = console
        self._is_verbose = is_verbose
        self._goals: tuple[Goal, ...] = ()
        self._clock = clock
        self._runs = self._runs_done = 0
        self._coming = self._budgets = self._done = self._new = 0
        self._begun_s = self._said_s = clock()

    def stage(self, text: str) -> None:
        """A line."""
        self._console.print(text)

    def notice(self, text: str) -> None:
        """A line that stands out."""
        self._console.print(f"note: {text}", style="yellow", soft_wrap=True)

    def planned(self, runs: int, evaluations: int, goals: tuple[Goal, ...]) -> None:
        """Counts from here."""
        self._runs, self._coming, self._goals = runs, evaluations, goals
        self._begun_s = self._said_s = self._clock()
        self._done = self._new = 0

    def evaluated(self, evaluation: Evaluation, *, is_new: bool) -> None:
        """A line once in a while; if verbose for each that is new."""
        self._done += 1
        self._new += is_new
        if self._is_verbose and is_new:
            self._console.print(self._text(evaluation), soft_wrap=True)
        if self._runs and self._clock() - self._said_s > _EVERY_S:
            self._say(f"{self._done:,} of {self._coming:,} evaluations")

    def _text(self, evaluation: Evaluation) -> str:
        from paredown.search.study.display import name_of, show, title_of

        if evaluation.failure is not None:
            return f"{name_of(evaluation)}: failed, {evaluation.failure.sentence}"
        values = (
            f"{title_of(g.metric)} {show(g.metric, evaluation.metrics[g.metric])}"
            for g in self._goals
        )
        return f"{name_of(evaluation)}: {', '.join(values)}"

    def finished(self, run: Run) -> None:
        """A line; what the run has not used of its budget is not coming."""
        self._runs_done += 1
        self._budgets += run.budget
        self._done = self._budgets
        text = f"{run.arm}, seed {run.seed}, {len(run.history)} evaluations: {run.volume:.4f}"
        self._say(f"{text}; {self._runs_done} of {self._runs} runs")

    def _say(self, text: str) -> None:
        self._said_s = self._clock()
        self._console.print(f"{text}, {self._new:,} new{self._left()}", soft_wrap=True)

    def _left(self) -> str:
        from paredown.search.cli.live import clock_text

        if not self._done or self._done >= self._coming:
            return ""
        left_s = (self._clock() - self._begun_s) / self._done * (self._coming - self._done)
        return f", {clock_text(left_s)} left"
