"""Who goes on: those that together dominate most, never more than asked."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from paredown.search.proposing.outlook import Outlook
from paredown.search.proposing.promoting import promotion
from paredown.search.study.evaluation import Goal
from paredown.search.study.pareto import Front, front_of, hypervolume

GOALS = (
    Goal(metric="accuracy", direction="maximize"),
    Goal(metric="latency_s", direction="minimize"),
    Goal(metric="onnx_bytes", direction="minimize"),
)


def leading(evaluations, count, goals=GOALS):
    values = np.array([[e.metrics[g.metric] for g in goals] for e in evaluations])
    return promotion.leading(evaluations, values, goals, count)


@pytest.fixture(scope="module")
def evaluations(make_evaluations):
    return [e for e in make_evaluations(60) if not e.is_failed][:40]


@pytest.mark.parametrize("count", [0, 1, 5, 39, 40, 60])
def test_as_many_as_asked_each_once(evaluations, count):
    found = leading(evaluations, count)
    assert len(found) == min(count, 40)
    assert len({e.key for e in found}) == len(found)


def test_the_front_goes_before_what_it_dominates(evaluations):
    front = front_of(evaluations, GOALS)
    found = leading(evaluations, len(front.members))
    assert {e.key for e in found} == front.keys


def test_a_few_dominate_nearly_as_much_as_the_best_few(evaluations):
    members = front_of(evaluations, GOALS).members[:9]
    reference = np.array([0.0, np.log(1.0), np.log(1e9)])
    assert len(members) > 4

    def volume(chosen):
        return hypervolume(Front(GOALS, 0, tuple(chosen)), reference)

    best = max(volume(each) for each in combinations(members, 4))
    assert volume(leading(members, 4)) >= (1 - 1 / np.e) * best


def test_late_ones_are_not_passed_over_for_being_late(evaluations):
    best = replace(
        evaluations[0],
        number=99,
        key="late",
        metrics={"accuracy": 1.0, "latency_s": 1e-9, "onnx_bytes": 1.0},
    )
    assert leading([*evaluations, best], 1) == [best]


def test_who_breaks_a_bound_does_not_go_on(evaluations):
    median = float(np.median([e.metrics["accuracy"] for e in evaluations]))
    bounded = (Goal(metric="accuracy", direction="maximize", at_least=median), *GOALS[1:])
    found = leading(evaluations, 40, bounded)
    assert {e.key for e in found} == {
        e.key for e in evaluations if e.metrics["accuracy"] >= median
    }
    impossible = (Goal(metric="accuracy", direction="maximize", at_least=2.0), *GOALS[1:])
    assert leading(evaluations, 40, impossible) == []


def test_belief_counts_and_not_the_score(evaluations):
    lucky, steady = (
        replace(
            evaluations[0], key=key, metrics=dict(evaluations[0].metrics) | {"accuracy": score}
        )
        for key, score in (("lucky", 0.99), ("steady", 0.90))
    )
    believed = np.array([[0.85, 1e-3, 1e4], [0.90, 1e-3, 1e4]])
    assert promotion.leading([lucky, steady], believed, GOALS, 1) == [steady]


def test_of_nothing_nothing_climbs():
    assert promotion.Promotion([], GOALS, None, None).leading(3, Outlook()) == ()


def test_unharmed_is_what_lost_at_most_half_a_point(evaluations):
    base = replace(evaluations[0], metrics={**evaluations[0].metrics, "accuracy": 0.9})
    values = (0.95, 0.9, 0.8951, 0.8949, 0.5)
    scored = [
        replace(each, key=f"{value}", metrics={**each.metrics, "accuracy": value})
        for each, value in zip(evaluations, values, strict=False)
    ]
    found = promotion.Promotion(scored, GOALS, base, None)
    assert found.unharmed == {"0.95", "0.9", "0.8951"}
    # With costs alone there is nothing that training could give back.
    assert replace(found, goals=GOALS[1:]).unharmed == {f"{value}" for value in values}


def test_what_leads_already_is_not_chosen_and_what_it_beats_adds_nothing(evaluations):
    best, beaten, other = (
        replace(evaluations[0], key=key, number=i, metrics=dict(zip(NAMES, values, strict=True)))
        for i, (key, values) in enumerate(
            (
                ("best", (0.9, 1e-3, 1e4)),
                ("beaten", (0.89, 1.1e-3, 1.1e4)),
                ("other", (0.5, 1e-4, 1e3)),
            )
        )
    )
    values = np.array([[e.metrics[g.metric] for g in GOALS] for e in (best, beaten, other)])
    assert promotion.leading([best, beaten, other], values, GOALS, 1, {"best"}) == [other]
    assert promotion.leading([best, beaten, other], values, GOALS, 9, {"best"}) == [other, beaten]


NAMES = [goal.metric for goal in GOALS]
