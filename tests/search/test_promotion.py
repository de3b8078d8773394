"""Who goes on: those that together dominate most, never more than asked."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from paredown.search.evaluation import Goal
from paredown.search.pareto import Front, front_of, hypervolume
from paredown.search.promotion import leading

GOALS = (
    Goal(metric="accuracy", direction="maximize"),
    Goal(metric="latency_s", direction="minimize"),
    Goal(metric="onnx_bytes", direction="minimize"),
)


@pytest.fixture(scope="module")
def evaluations(make_evaluations):
    return [e for e in make_evaluations(60) if not e.is_failed][:40]


@pytest.mark.parametrize("count", [0, 1, 5, 39, 40, 60])
def test_as_many_as_asked_each_once(evaluations, count):
    found = leading(evaluations, GOALS, count)
    assert len(found) == min(count, 40)
    assert len({e.key for e in found}) == len(found)


def test_the_front_goes_before_what_it_dominates(evaluations):
    front = front_of(evaluations, GOALS)
    found = leading(evaluations, GOALS, len(front.members))
    assert {e.key for e in found} == front.keys


def test_a_few_dominate_nearly_as_much_as_the_best_few(evaluations):
    members = front_of(evaluations, GOALS).members[:9]
    reference = np.array([0.0, np.log(1.0), np.log(1e9)])
    assert len(members) > 4

    def volume(chosen):
        return hypervolume(Front(GOALS, 0, tuple(chosen)), reference)

    best = max(volume(each) for each in combinations(members, 4))
    assert volume(leading(members, GOALS, 4)) >= (1 - 1 / np.e) * best


def test_late_ones_are_not_passed_over_for_being_late(evaluations):
    best = replace(
        evaluations[0],
        number=99,
        key="late",
        metrics={"accuracy": 1.0, "latency_s": 1e-9, "onnx_bytes": 1.0},
    )
    assert leading([*evaluations, best], GOALS, 1) == [best]
