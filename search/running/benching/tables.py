"""What a bench found, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.text import Text

from paredown.search.report.tables import plain_table
from paredown.search.running.benching.volumes import Run, Spread
from paredown.search.running.benching.whole_bench import BenchResult


def bench_table(result: BenchResult) -> Group:
    """A row for each arm, the best at the largest budget first: volume and share of the best known."""
    budgets = sorted({run.budget for run in result.runs})
    columns = [text for budget in budgets for text in (f"{budget} evaluations", "", "of best")]
    table = plain_table("arm", "seeds", *columns)
    for name in _best_first(result, budgets[-1]):
        seeds = {run.seed for run in result.runs if run.arm == name}
        cells = [cell for budget in budgets for cell in _cells(result, name, budget)]
        table.add_row(name, str(len(seeds)), *cells)
    goals = ", ".join(goal.metric for goal in result.goals)
    head = (
        f"volume of ({goals}) at {result.rows:,} images an evaluation, median (range); best known "
        f"{result.best_volume:.4f} of {result.known:,} candidates"
    )
    return Group(Text(head), table)


def _best_first(result: BenchResult, budget: int) -> Sequence[str]:
    names = dict.fromkeys(run.arm for run in result.runs)
    spreads = {name: _spread(_runs(result, name, budget)) for name in names}
    return sorted(names, key=lambda name: -spreads[name])


def _spread(runs: Sequence[Run]) -> float:
    return Spread.of(runs).median if runs else 0.0


def _runs(result: BenchResult, arm: str, budget: int) -> list[Run]:
    return [run for run in result.runs if (run.arm, run.budget) == (arm, budget)]


def _cells(result: BenchResult, arm: str, budget: int) -> tuple[str, str, str]:
    runs = _runs(result, arm, budget)
    if not runs:
        return "–", "", ""
    spread = Spread.of(runs)
    share = f"{100 * spread.median / result.best_volume:.1f} %" if result.best_volume else "–"
    return f"{spread.median:.4f}", f"({spread.low:.4f}–{spread.high:.4f})", share
