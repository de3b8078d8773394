"""What a price alone breaks, before anything is evaluated."""

from dataclasses import replace

import pytest

from paredown.hardware_models.timing.measure import MeasureError
from paredown.search.calibrating.drawing import uniform
from paredown.search.evaluating.bounds import refused_by
from paredown.search.study.evaluation import Goal
from paredown.search.study.pareto import front_of, is_within_bounds
from paredown.search.study.rung import Rung


@pytest.fixture
def priced(workbench):
    evaluation = workbench.evaluate_uncompressed(Rung(rows=32))
    return evaluation, evaluation.metrics


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("end", ["latency_s", "latency_high_s"])
@pytest.mark.parametrize("factor", [0.999, 1.001])
def test_proposer_and_front_draw_the_same_line(workbench, priced, relative, end, factor):
    evaluation, metrics = priced
    bound = metrics[end] * factor
    goal = Goal(metric="latency_s", direction="minimize", at_most=bound, relative=relative)
    refused = refused_by(workbench, (goal,), evaluation.candidate)
    assert (refused is None) == is_within_bounds(evaluation, (goal,))
    assert bool(front_of([evaluation], (goal,)).members) == (refused is None)
    held = "latency_s" if relative else "latency_high_s"
    assert (refused is None) == (metrics[held] <= bound)


def test_without_bounds_nothing_is_priced(workbench):
    quiet = replace(workbench, cost_models=None)
    goals = (Goal(metric="accuracy", direction="maximize", at_least=0.9),)
    assert refused_by(quiet, goals, workbench.uncompressed()) is None


def test_a_candidate_without_a_price_is_left_to_fail_with_its_reason(workbench, caplog):
    class Refusing:
        def price(self, blueprint, names):
            raise MeasureError("the ONNX model does not load")

    broken = replace(workbench, cost_models=Refusing())
    goals = (Goal(metric="onnx_bytes", direction="minimize", at_most=1.0),)
    candidate = uniform(workbench.space, "", 8)
    assert refused_by(broken, goals, candidate) is None
    assert candidate.key in caplog.text
    assert refused_by(workbench, goals, candidate) == "onnx_bytes"
