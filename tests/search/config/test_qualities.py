"""Qualities: one table that the config, the study and the tasks read, and records of a user's own."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from paredown.search.config.qualities import (
    ACCURACY,
    LOSS,
    QUALITIES,
    TASK_QUALITIES,
    measured_quality,
    quality_of,
)
from paredown.search.config.schema_task import LOSSES
from paredown.search.tasks.metrics import metric_named

SEARCH = Path(__file__).resolve().parents[3] / "search"


def test_each_task_quality_has_a_metric_that_computes_it_and_a_loss_that_exists() -> None:
    for name in TASK_QUALITIES:
        assert metric_named(name).quality is QUALITIES[name]
        assert QUALITIES[name].usual_loss in LOSSES
    assert LOSS.name not in TASK_QUALITIES


def test_a_share_is_to_be_maximised_and_only_a_share_is_written_in_per_cent() -> None:
    for quality in QUALITIES.values():
        assert quality.direction == "maximize" or not quality.is_share
        assert quality.is_share or not (quality.in_percent or quality.is_hit_rate)


def test_a_metric_of_ones_own_is_a_plain_number_with_its_direction() -> None:
    own = quality_of("f2", "minimize")
    assert (own.name, own.direction, own.is_share, own.in_percent) == (
        "f2",
        "minimize",
        False,
        False,
    )


@pytest.mark.parametrize(("value", "slack"), [(8.0, 4.0), (-8.0, 4.0), (0.0, 0.0)])
def test_without_a_margin_half_the_magnitude_is_the_slack(value: float, slack: float) -> None:
    assert quality_of("f2").slack(value) == slack
    assert ACCURACY.slack(value) == pytest.approx(0.1)


@pytest.mark.parametrize("name", ["accuracy", "test_accuracy", "uncompressed_test_accuracy"])
def test_a_measured_figure_is_written_as_its_quality_is(name: str) -> None:
    assert measured_quality(name) is ACCURACY


def test_no_module_compares_a_name_with_that_of_a_quality() -> None:
    found = [
        f"{path.relative_to(SEARCH)}:{node.lineno}"
        for path in SEARCH.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Compare)
        for inner in ast.walk(node)
        if isinstance(inner, ast.Constant) and inner.value in TASK_QUALITIES
    ]
    assert found == []
