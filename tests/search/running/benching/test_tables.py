"""The table of a bench."""

from __future__ import annotations

from paredown.search.report.terminal import plain_text
from paredown.search.running.benching.tables import bench_table
from paredown.search.running.benching.volumes import Run
from paredown.search.running.benching.whole_bench import BenchResult
from paredown.search.study.evaluation import Goal

GOALS = (Goal(metric="accuracy", direction="maximize"),)


def result(volumes: dict[tuple[str, int], list[float]]) -> BenchResult:
    runs = [
        Run(arm=arm, seed=seed, budget=budget, history=(), volumes=(volume,))
        for (arm, budget), each in volumes.items()
        for seed, volume in enumerate(each)
    ]
    return BenchResult(
        name="made",
        goals=GOALS,
        rows=1000,
        reference=(0.0,),
        arms=(),
        runs=tuple(runs),
        best_volume=0.5,
        best_members=3,
        known=40,
        joined=0,
        is_whole=True,
    )


def test_the_best_arm_at_the_largest_budget_stands_first_with_its_share():
    text = plain_text(
        bench_table(
            result(
                {
                    ("slow", 50): [0.4, 0.41, 0.3],
                    ("slow", 200): [0.41],
                    ("fast", 50): [0.1, 0.1, 0.1],
                    ("fast", 200): [0.45],
                }
            )
        )
    )
    lines = text.splitlines()
    assert "best known 0.5000 of 40 candidates" in lines[0]
    fast, slow = lines[2].split(), lines[3].split()
    assert fast[:5] == ["fast", "3", "0.1000", "(0.1000–0.1000)", "20.0"]
    assert fast[6:9] == ["0.4500", "(0.4500–0.4500)", "90.0"]
    assert slow[2:5] == ["0.4000", "(0.3000–0.4100)", "80.0"]


def test_runs_that_are_missing_are_dashes_and_no_volume_no_share():
    made = result({("a", 50): [0.1], ("b", 200): [0.2]})
    text = plain_text(bench_table(made))
    assert text.count("–") >= 2
