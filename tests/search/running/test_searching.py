"""What a search refuses before it is scored."""

from __future__ import annotations

from paredown.search.evaluating.workbench import Workbench
from paredown.search.running.searching import refused_by
from paredown.search.study.evaluation import Goal


def test_a_bound_on_latency_holds_the_upper_end_of_its_interval(workbench: Workbench) -> None:
    candidate = workbench.uncompressed()
    prices = workbench.price(candidate)
    between = (prices["latency_s"] + prices["latency_high_s"]) / 2
    bytes_goal = Goal(metric="onnx_bytes", direction="minimize", at_most=prices["onnx_bytes"])

    def latency(at_most: float) -> Goal:
        return Goal(metric="latency_s", direction="minimize", at_most=at_most)

    assert prices["latency_s"] < between < prices["latency_high_s"]
    assert refused_by(workbench, [bytes_goal, latency(between)], candidate) == "latency_s"
    assert refused_by(workbench, [latency(prices["latency_high_s"])], candidate) is None
    quality = Goal(metric="accuracy", direction="maximize", at_least=2.0)
    assert refused_by(workbench, [quality], candidate) is None
