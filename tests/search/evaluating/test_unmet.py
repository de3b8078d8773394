"""Bounds that nothing meets: which they are, and the model that comes nearest."""

import pytest

from paredown.search.config.reading import load_config
from paredown.search.evaluating.unmet import doubtful_bounds, why_none
from paredown.search.study.evaluation import Evaluation, Failure, FailureKind, Goal, Score
from paredown.search.study.pareto import front_of
from paredown.spaces.candidates.candidate import Candidate


def evaluated(number, accuracy, kilobytes, error=None):
    metrics = {} if error else {"accuracy": accuracy, "onnx_bytes": kilobytes * 1e3}
    failure = Failure(kind=FailureKind.RAISED, sentence=error) if error else None
    candidate = Candidate(dropped=(str(number),))
    return Evaluation(
        number=number, key=f"model{number}", candidate=candidate, metrics=metrics, failure=failure
    )


def reason(evaluations, at_least, at_most):
    goals = (
        Goal(metric="accuracy", direction="maximize", at_least=at_least),
        Goal(metric="onnx_bytes", direction="minimize", at_most=at_most),
    )
    front = front_of(evaluations, goals)
    assert not front.members
    return why_none(evaluations, front)


MODELS = (evaluated(0, 0.95, 90), evaluated(1, 0.80, 40), evaluated(2, 0, 0, "ValueError: no"))


def test_the_bound_that_nothing_meets_is_named_with_the_nearest_model():
    said = reason(MODELS, at_least=0.5, at_most=30e3)
    assert "none of 2 models meets onnx_bytes <= 30" in said
    assert "the nearest, model1, has 40" in said
    assert "accuracy" not in said
    said = reason(MODELS, at_least=0.99, at_most=30e3)
    assert "accuracy >= 99" in said
    assert "the nearest, model0, has 95" in said
    assert "; nor onnx_bytes" in said


def test_bounds_that_are_met_one_at_a_time_are_loosened_together():
    said = reason(MODELS, at_least=0.9, at_most=50e3)
    assert said.startswith("none of 2 models meets all bounds together")


def test_where_all_failed_no_bound_is_blamed():
    assert reason(MODELS[2:], at_least=0.9, at_most=1.0) == (
        "no model was scored: all 1 evaluations failed"
    )


@pytest.mark.parametrize(
    ("goal", "value", "is_doubtful"),
    [
        ("{metric: accuracy, at_least: 0.9}", 0.89, True),
        ("{metric: accuracy, at_least: 0.9}", 0.9, False),
        ("{metric: accuracy}", 0.1, False),
    ],
)
def test_a_bound_that_the_uncompressed_model_breaks_is_doubtful(
    write_config, goal, value, is_doubtful
):
    text = f"task: {{name: digits}}\ngoals: [{goal}, {{metric: onnx_bytes, at_most: 1}}]\n"
    found = doubtful_bounds(
        load_config(write_config(text)), "accuracy", Score(metric=value, loss=1.0, images=1250)
    )
    assert len(found) == is_doubtful
    if is_doubtful:
        assert "accuracy is 89" in found[0]
        assert "on 1,250 rows" in found[0]
        assert "at_least: 0.9" in found[0]
