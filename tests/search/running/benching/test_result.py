"""Volumes of fronts made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from paredown.search.running.benching.result import Spread, best_known, volumes_of
from paredown.search.study.evaluation import Evaluation, Failure, FailureKind, Goal
from paredown.search.study.pareto import reference_point
from paredown.spaces.candidates.candidate import Candidate, LayerChoice

GOALS = (
    Goal(metric="accuracy", direction="maximize", at_least=0.5),
    Goal(metric="onnx_bytes", direction="minimize"),
)


def scored(number: int, accuracy: float, size: float) -> Evaluation:
    candidate = Candidate.of(layers={f"{number}": LayerChoice(weight_bits=4)})
    metrics = {"accuracy": accuracy, "onnx_bytes": size}
    return Evaluation(number=number, key=candidate.key, candidate=candidate, metrics=metrics)


BASE, DEAREST = scored(0, 0.9, 4000.0), scored(1, 0.9, 1000.0)
WORST = reference_point(GOALS, BASE, DEAREST)


def test_the_volume_after_each_evaluation_is_that_of_its_staircase() -> None:
    failure = Failure(kind=FailureKind.RAISED, sentence="no")
    broken = Evaluation(number=5, key="x", candidate=Candidate(), failure=failure)
    history = (
        BASE,  # dearer than the uniform 8-bit model, which is where volume begins
        scored(2, 0.9, 500.0),  # ten points at half the bytes
        scored(3, 0.85, 250.0),  # five points at a quarter
        broken,
        scored(4, 0.4, 1.0),  # outside the bound
    )
    one = 0.1 * math.log(2)
    both = one + 0.05 * math.log(2)
    assert volumes_of(history, GOALS, WORST) == pytest.approx((0.0, one, both, both, both))


def test_more_evaluations_never_have_less_volume() -> None:
    made = np.random.default_rng(0)
    history = [
        scored(n, float(a), float(s))
        for n, (a, s) in enumerate(made.uniform((0.6, 10), (1, 2000), (60, 2)))
    ]
    volumes = volumes_of(history, GOALS, WORST)
    assert list(volumes) == sorted(volumes)
    front, best = best_known(history, GOALS, WORST)
    assert best == pytest.approx(volumes[-1])
    assert {e.key for e in front.members} <= {e.key for e in history}


def test_a_spread_has_the_median_and_the_ends() -> None:
    assert Spread.of([0.3, 0.1, 0.2]) == Spread(median=0.2, low=0.1, high=0.3)


def test_a_curve_is_the_spread_after_each_evaluation_and_short_runs_stay_where_they_end(
    made_result,
):
    result = made_result({("a", 3): [[0.1, 0.2, 0.4], [0.0, 0.3]], ("b", 3): [[0.5]]})
    assert result.curve("a", 3) == [
        Spread.of([0.1, 0.0]),
        Spread.of([0.2, 0.3]),
        Spread.of([0.4, 0.3]),
    ]
    assert result.spread("a", 3) == Spread.of([0.4, 0.3])
    assert result.spread("a", 4) is None
    assert result.curve("c", 3) == []


def test_arms_are_ranked_by_the_largest_budget_and_shares_are_of_the_best_known(made_result):
    result = made_result(
        {("a", 9): [[0.1]], ("b", 9): [[0.2]], ("a", 3): [[0.9]], ("b", 3): [[0]]}
    )
    assert result.budgets == (3, 9)
    assert [arm.name for arm in result.ranked] == ["b", "a"]
    assert result.share(0.25) == pytest.approx(0.5)
    assert made_result({("a", 3): [[0.0]]}, best=0.0).share(0.0) is None
