"""Evaluations and goals."""

import json
import math
from dataclasses import asdict, replace

import pytest

from paredown.search.study.evaluation import Evaluation, Goal, Score, Spent, is_cost, reference


def test_an_evaluation_comes_back_exactly_from_its_json(make_evaluations):
    for evaluation in make_evaluations(40):
        text = json.dumps(evaluation.to_json())
        assert Evaluation.from_json(json.loads(text)) == evaluation


def test_a_third_as_metric_keeps_every_bit(make_evaluations):
    evaluation = make_evaluations(1)[0]
    exact = Evaluation(**{**vars(evaluation), "metrics": {"accuracy": 1 / 3, "loss": math.inf}})
    assert Evaluation.from_json(json.loads(json.dumps(exact.to_json()))).metrics == exact.metrics


def test_seconds_come_back_and_are_none_where_an_earlier_version_wrote(make_evaluations):
    evaluation = replace(make_evaluations(1)[0], spent=Spent(1 / 3, 2.0, 0.5))
    written = json.loads(json.dumps(evaluation.to_json()))
    assert Evaluation.from_json(written).spent == evaluation.spent
    score = Score(metric=0.5, loss=1.0, images=3, spent=evaluation.spent)
    assert Score.from_json(json.loads(json.dumps(asdict(score)))).spent == evaluation.spent
    del written["spent"]
    assert Evaluation.from_json(written).spent.total_s == 0.0


def test_an_unknown_field_is_refused(make_evaluations):
    with pytest.raises(TypeError, match="colour"):
        Evaluation.from_json(make_evaluations(1)[0].to_json() | {"colour": "blue"})


def test_bounds_are_inclusive_and_nan_is_never_within():
    goal = Goal(metric="latency_s", direction="minimize", at_most=0.002, at_least=0.001)
    assert [goal.is_met(v) for v in (0.0009, 0.001, 0.002, 0.0021, math.nan)] == [
        False,
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("place", ["", "@rpi5-a76-ort"])
def test_a_bound_in_seconds_is_held_by_the_upper_end_and_a_relative_one_by_the_value(place):
    metrics = {f"latency_s{place}": 1.0, f"latency_high_s{place}": 1.2}
    for bound, absolute, relative in ((0.9, False, False), (1.1, False, True), (1.2, True, True)):
        goal = Goal(metric=f"latency_s{place}", direction="minimize", at_most=bound)
        assert goal.keeps_bounds(metrics) == absolute
        assert replace(goal, relative=True).keeps_bounds(metrics) == relative
        # Without an interval the value is all there is.
        assert goal.keeps_bounds({goal.metric: 1.0}) == relative


def test_any_other_bound_is_held_by_the_value():
    goal = Goal(metric="onnx_bytes", direction="minimize", at_most=100.0)
    assert goal.has_bound
    assert goal.keeps_bounds({"onnx_bytes": 100.0, "latency_high_s": 200.0})
    assert not goal.keeps_bounds({"onnx_bytes": 101.0})


def test_loss_of_a_maximised_goal_is_its_negative():
    assert Goal(metric="accuracy", direction="maximize").loss(0.8) == -0.8
    assert Goal(metric="latency_s", direction="minimize").loss(0.8) == 0.8


def test_costs_are_told_from_qualities_by_their_unit():
    costs = ("latency_s", "onnx_bytes", "peak_memory_bytes", "energy_j", "macs", "bops")
    assert all(map(is_cost, costs))
    assert not any(map(is_cost, ("accuracy", "loss", "perplexity", "mean_iou", "rmse")))


def test_the_latest_successful_reference_is_found_by_its_label(make_evaluations):
    evaluations = make_evaluations(20)
    assert reference(evaluations, "uniform 8-bit") is evaluations[1]
    assert reference(evaluations, "uniform 1-bit") is None
