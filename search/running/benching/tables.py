"""What a bench found, as tables: for a terminal, as JSON with all curves, and as CSV."""

from __future__ import annotations

import csv
import io

from rich.console import Group
from rich.text import Text

from paredown.search.report.tables import plain_table
from paredown.search.running.benching.arm import Arm
from paredown.search.running.benching.result import BenchResult, Run
from paredown.spaces.system.json_values import Json

_CSV_HEAD = ("arm", "seed", "budget", "evaluations", "images", "failed", "volume", "share_of_best")


def bench_table(result: BenchResult) -> Group:
    """A row for each arm, the best at the largest budget first: volume and share of the best known."""
    heads = [
        text
        for budget in result.budgets
        for text in (f"at {budget}", "range" if result.seeds > 1 else "", "of best")
    ]
    table = plain_table("arm", *heads)
    for arm in result.ranked:
        cells = [text for budget in result.budgets for text in cells_of(result, arm.name, budget)]
        table.add_row(arm.name, *cells)
    return Group(Text(head_of(result)), "", table)


def head_of(result: BenchResult) -> str:
    """What the figures are, in sentences."""
    goals = ", ".join(goal.metric for goal in result.goals)
    images = " and ".join(
        f"{budget * result.rows:,} in {budget:,} evaluations" for budget in result.budgets
    )
    seeds = f"median and range over {result.seeds} seeds" if result.seeds > 1 else "one seed"
    joined = f", {result.joined} of them new in the pool" if result.joined else ""
    return (
        f"Volume of ({goals}), {seeds}; images forwarded: {images}. Best known: "
        f"{result.best_volume:.4f}, {result.best_members} models of {result.known:,} "
        f"candidates{joined}."
    )


def cells_of(result: BenchResult, arm: str, budget: int) -> tuple[str, str, str]:
    """Median, range and share of the best known volume; dashes where there is none."""
    spread = result.spread(arm, budget)
    if spread is None:
        return "–", "", ""
    share = result.share(spread.median)
    return (
        f"{spread.median:.4f}",
        f"{spread.low:.3f}–{spread.high:.3f}" if result.seeds > 1 else "",
        "–" if share is None else f"{100 * share:.1f} %",
    )


def bench_json(result: BenchResult) -> dict[str, Json]:
    """Everything: arms with their figures, and runs with candidate keys and curves."""
    return {
        "name": result.name,
        "goals": [{"metric": g.metric, "direction": g.direction} for g in result.goals],
        "images_per_evaluation": result.rows,
        "reference_point": list(result.reference),
        "best_known": {
            "volume": result.best_volume,
            "models": result.best_members,
            "candidates": result.known,
        },
        "is_whole": result.is_whole,
        "arms": [_arm_json(result, arm) for arm in result.ranked],
        "runs": [_run_json(result, run) for run in result.runs],
    }


def _arm_json(result: BenchResult, arm: Arm) -> dict[str, Json]:
    budgets: list[Json] = []
    for budget in result.budgets:
        spread = result.spread(arm.name, budget)
        if spread is not None:
            figures = {"median": spread.median, "low": spread.low, "high": spread.high}
            share = result.share(spread.median)
            size = {"evaluations": budget, "images": budget * result.rows}
            budgets.append({**size, **figures, "share_of_best": share})
    return {"name": arm.name, "text": arm.text, "budgets": budgets}


def _run_json(result: BenchResult, run: Run) -> dict[str, Json]:
    return {
        **dict(zip(_CSV_HEAD, _row(result, run), strict=True)),
        "volumes": list(run.volumes),
        "keys": [e.key for e in run.history],
    }


def bench_csv(result: BenchResult) -> str:
    """A line for each run."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_CSV_HEAD)
    writer.writerows(_row(result, run) for run in result.runs)
    return text.getvalue()


def _row(result: BenchResult, run: Run) -> tuple[str | int | float | None, ...]:
    count = len(run.history)
    images = count * result.rows
    share = result.share(run.volume)
    return run.arm, run.seed, run.budget, count, images, run.failures, run.volume, share
