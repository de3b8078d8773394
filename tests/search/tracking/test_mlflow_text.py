"""What is said in MLflow, within what MLflow keeps."""

from dataclasses import replace

import pytest

from paredown.search.study.display import Outline
from paredown.search.study.evaluation import Failure, FailureKind
from paredown.search.study.pareto import Front, front_of
from paredown.search.tracking.mlflow_text import child_note, child_params, parent_note


@pytest.fixture
def outline(layer_weights):
    return Outline(layer_weights=layer_weights, widths={})


def test_the_parents_description_fits_and_says_what_it_leaves_out(goals, make_evaluations):
    members = tuple(replace(e, number=i) for i, e in enumerate(make_evaluations(400)))
    alive = tuple(e for e in members if not e.is_failed)
    children = {e.key: "f" * 32 for e in alive}
    text = parent_note(Front(goals, members=alive), members, children, "1")
    assert len(text) <= 8000
    shown = text.count("(#/experiments/1/runs/")
    assert 20 < shown < len(alive)
    assert f"\n\nand {len(alive) - shown} more\n" in text, "below the table, not a row of it"


def test_costs_stand_beside_their_ratio_to_the_uncompressed_model(goals, make_evaluations):
    evaluations = make_evaluations(3)
    text = parent_note(front_of(evaluations, goals), evaluations, {}, "1")
    base, eight = (e.metrics["onnx_bytes"] for e in evaluations[:2])
    assert f"{eight / 1e3:.1f} ({base / eight:.2f}×)" in text


def test_a_failure_tells_its_reason_and_nothing_to_copy(make_evaluations, outline):
    failed = replace(
        make_evaluations(1)[0],
        failure=Failure.of_text(FailureKind.RAISED, "out of memory" * 1000),
        metrics={},
    )
    note = child_note(failed, outline, "abc")
    assert "out of memory" in note
    assert "paredown export" not in note
    assert len(note) <= 8000


def test_parameters_are_few_and_never_empty(make_evaluations, outline):
    params = child_params(make_evaluations(10)[9], outline)
    assert len(params) < 12
    assert all(params.values())
