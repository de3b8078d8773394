"""What verifying found as data: on the card, in the file of the front, and in MLflow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from paredown.search.bundles.card import Measured, read_card
from paredown.search.bundles.measured import (
    first_choice,
    latencies_outside,
    logged_bundles,
    member_json,
    record_on_card,
)
from paredown.search.study.bundle_check import BundleCheck
from paredown.search.study.evaluation import Evaluation, Goal
from paredown.search.study.front_measured import measured_front
from paredown.search.study.pareto import Front

GOALS = (
    Goal(metric="accuracy", direction="maximize"),
    Goal(metric="latency_s", direction="minimize"),
    Goal(metric="macs", direction="minimize"),
)


# By what was predicted none beats another; measured, the second is slower and worse than the first.
PREDICTED = ((0.98, 20e-6, 100.0), (0.96, 10e-6, 100.0), (0.90, 8e-6, 50.0))


MEASURED = ((0.97, 0.5), (0.95, 0.6), (0.91, 0.9))


@pytest.fixture
def members(make_evaluations: Callable[[int], tuple[Evaluation, ...]]) -> list[Evaluation]:
    names = [goal.metric for goal in GOALS]
    return [
        replace(evaluation, metrics=dict(zip(names, values, strict=True)), label="")
        for evaluation, values in zip(make_evaluations(3), PREDICTED, strict=True)
    ]


@pytest.fixture
def checks(members: list[Evaluation]) -> list[BundleCheck]:
    return [
        BundleCheck(
            key=member.key,
            folder=Path("bundles") / member.key,
            predicted={"latency_ratio": 0.5},
            measured={
                "test_accuracy": accuracy,
                "latency_ratio": ratio,
                "latency_s": 1e-6,  # of a minute in which the machine was faster
                "uncompressed_latency_s": uncompressed_s,
            },
            kernels={"QLinearConv": 4, "QGemm": 1},
        )
        for member, (accuracy, ratio), uncompressed_s in zip(
            members, MEASURED, (10e-6, 20e-6, 30e-6), strict=True
        )
    ]


def test_a_member_of_the_file_has_what_was_measured_beside_what_was_predicted(
    members: list[Evaluation], checks: list[BundleCheck]
) -> None:
    front = measured_front(GOALS, members, checks)
    written = member_json(members[1], checks[1], front)
    assert written["metrics"] == members[1].metrics
    assert written["measured"]["metrics"]["test_accuracy"] == 0.95
    assert written["measured"]["kernels"] == {"QLinearConv": 4, "QGemm": 1}
    assert written["measured"]["verdict"] == "verified"
    assert written["measured"]["on_front"] is False
    assert member_json(members[1], None, front)["measured"] is None
    assert "on_front" not in Measured.of(checks[1]).to_json()


def test_mlflow_is_given_figures_as_metrics_and_words_as_tags(
    members: list[Evaluation], checks: list[BundleCheck]
) -> None:
    warned = replace(checks[1], warnings=("latency: 0.6 was measured",))
    broken = replace(checks[0], mismatches=("content: model.onnx",))
    front = Front(GOALS, members=tuple(members))
    bundles = {
        bundle.key: bundle for bundle in logged_bundles(front, [broken, warned, checks[2]], "toy")
    }
    first, second, third = (bundles[member.key] for member in members)
    assert [each.holds for each in (first, second, third)] == [False, True, True]
    assert [each.is_picked for each in (first, second, third)] == [False, True, False]
    assert second.metrics["measured/test_accuracy"] == 0.95
    assert second.metrics["latency_ratio"] == 0.5
    assert second.tags["measured.verdict"] == "verified"
    assert second.tags["measured.kernels"] == "1 QGemm, 4 QLinearConv"
    assert second.tags["measured.warnings"] == "latency: 0.6 was measured"
    assert first.tags["measured.mismatches"] == "content: model.onnx"
    assert second.folder == checks[1].folder
    said = latencies_outside([broken, warned, checks[2]])
    assert f"1 of 3 models lies outside its predicted 95 % interval ({members[1].key})" in said
    assert latencies_outside(checks) == ""


def test_the_first_choice_is_the_best_in_the_first_goal_and_then_the_next(
    members: list[Evaluation],
) -> None:
    even = replace(members[1], metrics={**members[1].metrics, "accuracy": 0.98})
    assert first_choice(members, GOALS) is members[0]
    assert first_choice([members[0], even, members[2]], GOALS) is even
    assert first_choice([], GOALS) is None


def test_a_card_keeps_what_it_said_and_gains_what_was_measured(
    planted: Callable[[str], Path], checks: list[BundleCheck]
) -> None:
    folder = planted("weights")
    before = read_card(folder)
    record_on_card(replace(checks[0], folder=folder))
    after = read_card(folder)
    assert before.measured is None
    assert after == before.with_measured(checks[0])
    assert "0.97" in (folder / "README.md").read_text()


def test_a_bundle_whose_card_is_broken_is_left_as_it_is(
    planted: Callable[[str], Path], checks: list[BundleCheck]
) -> None:
    folder = planted("weights")
    (folder / "card.json").write_text("{}")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    record_on_card(replace(checks[0], folder=folder))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
