"""What training gives back is learned from candidates before and after it."""

import numpy as np
import pytest

from paredown.search.proposing.outlook import Outlook, outlook_of
from paredown.search.study.evaluation import Evaluation, Goal
from paredown.search.study.rung import Recipe, Rung
from paredown.spaces.candidates.candidate import Candidate

GOALS = (
    Goal(metric="accuracy", direction="maximize"),
    Goal(metric="onnx_bytes", direction="minimize"),
)
TRAINED = Rung(number=1, recipe=Recipe(trainer="t 1", steps=10))


def scored(key: str, accuracy: float, rung: Rung | None = None) -> Evaluation:
    return Evaluation(
        number=0,
        key=key,
        candidate=Candidate(),
        rung=rung or Rung(),
        metrics={"accuracy": accuracy, "onnx_bytes": 1.0},
        trained=key if rung else None,
    )


BASE = scored("base", 0.9)


def test_without_training_nothing_is_expected_back():
    outlook = outlook_of([], GOALS, BASE, is_trained=False)
    lost = np.array([0.1, -0.02])
    assert outlook == Outlook()
    assert outlook.after("accuracy", lost).tolist() == lost.tolist()
    assert outlook.deviation("accuracy", np.array([0.01, 0.02])).tolist() == [0.01, 0.02]


def test_many_pairs_outweigh_the_prior_and_gains_stay():
    pairs = [
        each
        for i in range(60)
        for each in (scored(f"{i}", 0.9 - 0.001 * i), scored(f"{i}", 0.9 - 0.0002 * i, TRAINED))
    ]
    outlook = outlook_of(pairs, GOALS, BASE, is_trained=True)
    assert outlook.left["accuracy"] == pytest.approx(0.2, abs=0.02)
    assert set(outlook.left) == {"accuracy"}
    after = outlook.after("accuracy", np.array([0.1, -0.01]))
    assert after.tolist() == pytest.approx([0.1 * outlook.left["accuracy"], -0.01])


def test_few_pairs_leave_it_near_the_prior():
    nothing = outlook_of([], GOALS, BASE, is_trained=True)
    one = outlook_of([scored("a", 0.8), scored("a", 0.8, TRAINED)], GOALS, BASE, is_trained=True)
    assert nothing.left["accuracy"] < one.left["accuracy"] < 0.7
    assert nothing.spread["accuracy"] > 0


def test_failures_and_what_was_never_scored_before_teach_nothing():
    outlook = outlook_of([scored("a", 0.1, TRAINED)], GOALS, BASE, is_trained=True)
    assert outlook == outlook_of([], GOALS, BASE, is_trained=True)


def test_at_best_less_is_left_by_one_deviation():
    outlook = outlook_of([], GOALS, BASE, is_trained=True)
    expected = outlook.left["accuracy"] - outlook.spread["accuracy"]
    assert outlook.at_best.left["accuracy"] == pytest.approx(expected)
    assert 0 < expected < outlook.left["accuracy"]
    assert Outlook().at_best == Outlook()
