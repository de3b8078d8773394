"""Rivals cost no more than the reference they are held against, and are the best of those."""

from dataclasses import replace

import numpy as np

from paredown.search.proposing.promoting.rivals import rivals_among, unbeaten
from paredown.search.study.evaluation import UNCOMPRESSED, Evaluation, Goal
from paredown.spaces.candidates.candidate import Candidate

GOALS = (
    Goal(metric="accuracy", direction="maximize", at_least=0.5),
    Goal(metric="latency_s", direction="minimize"),
    Goal(metric="onnx_bytes", direction="minimize"),
)


def evaluation(key, accuracy, latency_s, onnx_bytes, kind="search", label=""):
    return Evaluation(
        number=0,
        key=key,
        candidate=Candidate(),
        kind=kind,
        label=label,
        metrics={"accuracy": accuracy, "latency_s": latency_s, "onnx_bytes": onnx_bytes},
    )


BASE = evaluation("base", 0.9, 1.0, 100.0, "reference", UNCOMPRESSED)
NARROW = evaluation("narrow", 0.8, 1.0, 20.0, "reference", "uniform 4-bit")


def values_of(evaluations):
    return np.array([[e.metrics[g.metric] for g in GOALS] for e in evaluations])


def test_a_reference_is_unbeaten_until_something_is_no_worse_anywhere_and_better_somewhere():
    worse = evaluation("a", 0.79, 0.5, 10.0)
    larger = evaluation("b", 0.85, 0.5, 21.0)
    assert unbeaten([BASE, NARROW, worse, larger], GOALS, "base") == [NARROW]
    assert unbeaten([BASE, NARROW, evaluation("c", 0.8, 1.0, 19.0)], GOALS, "base") == []


def test_rivals_cost_no_more_and_the_best_believed_come_first():
    found = [
        NARROW,
        evaluation("slower", 0.9, 1.1, 10.0),
        evaluation("larger", 0.9, 0.9, 21.0),
        evaluation("good", 0.6, 0.9, 20.0),
        evaluation("better", 0.7, 1.0, 19.0),
        evaluation("hopeless", 0.4, 0.1, 1.0),
    ]
    values = values_of(found)
    keys = [e.key for e in rivals_among(found, values, GOALS, NARROW, 9)]
    assert keys == ["better", "good"]
    assert len(rivals_among(found, values, GOALS, NARROW, 1)) == 1
    values[3, 0] = 0.75  # belief, not score, ranks
    assert rivals_among(found, values, GOALS, NARROW, 1)[0].key == "good"


def test_where_only_costs_are_goals_there_is_nothing_to_rank_by():
    goals = GOALS[1:]
    assert rivals_among([BASE], values_of([BASE])[:, 1:], goals, NARROW, 3) == []


def test_a_reference_is_not_its_own_rival():
    twin = replace(NARROW, key="twin")
    found = [NARROW, twin]
    assert [e.key for e in rivals_among(found, values_of(found), GOALS, NARROW, 5)] == ["twin"]
