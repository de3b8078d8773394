"""The rows of a front, as terminal, report and MLflow show them."""

import io

import pytest
from rich.console import Console

from paredown.search.report.tables import front_table
from paredown.search.study.evaluation import Goal
from paredown.search.study.pareto import front_of
from paredown.search.study.rows import against, front_rows, references_of
from paredown.search.tracking.mlflow_text import parent_note


@pytest.fixture
def front(goals, make_evaluations):
    evaluations = make_evaluations(60)
    return evaluations, front_of(evaluations, goals)


def test_rows_are_references_then_members_from_the_best_down(front, goals):
    evaluations, found = front
    references = references_of(evaluations, found.rung)
    rows = front_rows(found.members, goals, references).rows
    assert [row.evaluation.label for row in rows[:2]] == ["uncompressed", "uniform 8-bit"]
    accuracies = [row.evaluation.metrics["accuracy"] for row in rows[2:]]
    assert accuracies == sorted(accuracies, reverse=True)
    assert {row.evaluation.key for row in rows if row.is_member} == found.keys


def test_a_column_has_one_unit(front, goals):
    evaluations, found = front
    rows = front_rows(found.members, goals, references_of(evaluations, found.rung))
    for place, goal in enumerate(goals):
        factor = rows.units[goal.metric].factor
        for row in rows.rows:
            value = row.evaluation.metrics[goal.metric]
            assert float(row.values[place]) == pytest.approx(value * factor, rel=2e-3)


@pytest.mark.parametrize(
    ("metric", "direction", "whole", "value", "text"),
    [
        ("onnx_bytes", "minimize", 1000.0, 250.0, "4.00×"),
        ("latency_s", "minimize", 1e-3, 2e-3, "0.50×"),
        ("macs", "minimize", 10.0, 0.0, "∞×"),
        ("accuracy", "maximize", 0.9, 0.897, "-0.30"),
        ("mean_iou", "maximize", 0.5, 0.625, "+0.125"),
    ],
)
def test_costs_are_ratios_and_qualities_differences(
    make_evaluations, metric, direction, whole, value, text
):
    from dataclasses import replace

    base = replace(make_evaluations(1)[0], metrics={metric: whole})
    goal = Goal(metric=metric, direction=direction)
    assert against(goal, replace(base, metrics={metric: value}), base) == text
    assert against(goal, base, None) == ""


def test_terminal_and_mlflow_show_the_same_models_values_and_ratios(front, goals):
    """One order, one unit a column and one notation of a ratio: the report's table is tested itself."""
    evaluations, found = front
    console = Console(file=io.StringIO(), width=200)
    console.print(front_table(found.members, goals, references_of(evaluations, found.rung)))
    _, *terminal = console.file.getvalue().splitlines()
    lines = parent_note(found, evaluations, {}, "1").splitlines()
    table = [line.strip("| ").replace("|", " ") for line in lines if line.startswith("| ")][1:]
    plain = [line.replace("(", " ").replace(")", " ").split() for line in table]
    assert [line.split() for line in terminal] == plain
