"""Two runs side by side: volumes and shares that can be counted by hand."""

import json
from dataclasses import replace

from paredown.search.report.comparing import dominated_share
from paredown.search.study.evaluation import Evaluation, Goal
from paredown.search.study.pareto import Front
from paredown.spaces.candidates.candidate import Candidate


def test_a_run_against_itself_beats_none_of_its_points(paredown, make_run):
    folder = make_run()
    done = paredown("compare", folder, folder)
    assert done.exit_code == 0
    told = json.loads(paredown("compare", folder, folder, "--json").stdout)
    front = json.loads(paredown("front", folder, "--json").stdout)["front"]
    for run in told["runs"]:
        assert run["beaten_share"] == 0.0
        assert [m["key"] for m in run["front"]] == [m["key"] for m in front]
    rows = [line for line in done.stdout.splitlines() if line.startswith(("A  ", "B  "))]
    assert [row.split()[-1] for row in rows] == ["0%", "0%"]
    assert rows[0].split()[-2] == rows[1].split()[-2]


def test_a_better_run_has_more_volume_and_beats_every_point(paredown, make_run):
    def better(e):
        smaller = {**e.metrics, "onnx_bytes": 0.9 * e.metrics["onnx_bytes"]} if e.metrics else {}
        return e if e.label else replace(e, metrics=smaller)

    shown = paredown("compare", make_run("one"), make_run("two", change=better)).stdout
    first, second = (
        line.split() for line in shown.splitlines() if line.startswith(("A  ", "B  "))
    )
    assert float(second[-2]) > float(first[-2])
    assert second[-1] == "0%"
    assert int(first[-1].rstrip("%")) > 50


def test_runs_with_one_goal_in_common_are_not_compared(paredown, make_run, goals):
    other = (goals[0], Goal(metric="loss", direction="minimize"))
    done = paredown("compare", make_run("one"), make_run("two", goals=other))
    assert done.exit_code == 2
    assert "goals" in done.stderr


def test_runs_of_different_models_are_compared_with_a_note(paredown, make_run):
    def slower(e):
        return replace(
            e, metrics={n: 2 * v if n == "latency_s" else v for n, v in e.metrics.items()}
        )

    done = paredown("compare", make_run("one"), make_run("two", change=slower))
    assert "uncompressed latency differs" in done.stdout


def test_dominated_share_counts_by_hand():
    goals = (
        Goal(metric="accuracy", direction="maximize"),
        Goal(metric="macs", direction="minimize"),
    )

    def front(*points):
        return Front(goals, 0, tuple(_point(*point) for point in points))

    mine = front((0.9, 10.0), (0.8, 5.0), (0.7, 1.0), (0.95, 20.0))
    other = front((0.9, 10.0), (0.85, 5.0), (0.96, 19.0))
    # The first ties, the third is beaten by none, the second and the fourth are beaten.
    assert dominated_share(mine, other) == 0.5
    assert dominated_share(mine, Front(goals)) == 0.0


def _point(accuracy, macs):
    metrics = {"accuracy": accuracy, "macs": macs}
    return Evaluation(number=0, key="k", candidate=Candidate(), metrics=metrics)
