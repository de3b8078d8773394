"""What a finished search prints: counts, references, and what to type next."""

import pytest

from paredown.search.cli.summary import summary
from paredown.search.report.terminal import plain_text
from paredown.search.running.whole_search import RunResult
from paredown.search.study.pareto import front_of


def test_the_summary_prints_a_folder_by_its_name(goals, make_evaluations, tmp_path):
    evaluations = make_evaluations(5)
    result = RunResult(
        folder=tmp_path / "[red]run",
        evaluations=evaluations,
        front=front_of(evaluations, goals),
        bundles=(),
        interrupted=False,
    )
    assert "[red]run/report.html" in plain_text(summary(result, 1.0))


@pytest.mark.parametrize("has_front", [True, False])
def test_failures_are_counted_and_only_a_front_has_a_model_to_take(
    has_front, goals, make_evaluations, tmp_path, monkeypatch
):
    evaluations = make_evaluations(80)
    failed = sum(e.is_failed for e in evaluations)
    assert failed
    front = front_of(evaluations if has_front else (), goals)
    result = RunResult(
        folder=tmp_path / "runs" / "toy",
        evaluations=evaluations,
        front=front,
        bundles=(),
        interrupted=False,
    )
    monkeypatch.chdir(tmp_path)
    text = plain_text(summary(result, 61.0))
    head = f"{len(front.members)} models on the front of 80 evaluations in 1:01, {failed} failed"
    assert text.startswith(head)
    # From where the user stands, not from the root.
    assert "paredown ui runs/toy" in text
    assert ('paredown export runs/toy --pick "max accuracy"' in text) is has_front
