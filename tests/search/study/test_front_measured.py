"""The front of measured values, on three invented models whose figures are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from paredown.search.study.bundle_check import BundleCheck
from paredown.search.study.evaluation import Evaluation, Goal
from paredown.search.study.front_measured import MeasuredFront, measured_front

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


def test_a_model_that_is_slower_and_worse_than_predicted_leaves_the_front_of_measured_values(
    members: list[Evaluation], checks: list[BundleCheck]
) -> None:
    found = measured_front(GOALS, members, checks)
    assert [found.holds(member.key) for member in members] == [True, False, True]
    # Ratios times what the uncompressed model took on the average, 20 µs; MACs are as predicted.
    assert found.values[members[0].key] == pytest.approx(
        {"accuracy": 0.97, "latency_s": 10e-6, "macs": 100.0}
    )
    assert found.values[members[2].key]["latency_s"] == pytest.approx(18e-6)


def test_of_a_broken_model_or_one_without_a_figure_nothing_is_said(
    members: list[Evaluation], checks: list[BundleCheck]
) -> None:
    broken = replace(checks[0], mismatches=("kernels: one fell back",))
    untimed = replace(checks[1], measured={"test_accuracy": 0.99})
    found = measured_front(GOALS, members, [broken, untimed, checks[2]])
    assert [found.holds(member.key) for member in members] == [None, None, True]


def test_where_no_latency_is_measured_the_predicted_ones_are_compared(
    members: list[Evaluation], checks: list[BundleCheck]
) -> None:
    untimed = [
        replace(check, measured={"test_accuracy": check.measured["test_accuracy"]})
        for check in checks
    ]
    found = measured_front(GOALS, members, untimed)
    assert [found.holds(member.key) for member in members] == [True, True, True]
    assert found.values[members[1].key]["latency_s"] == 10e-6
    assert measured_front(GOALS, members, []) == MeasuredFront()
