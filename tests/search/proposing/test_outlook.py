"""What training gives back is learned from candidates before and after it."""

from dataclasses import replace

import numpy as np
import pytest

from paredown.search.proposing.outlook import Outlook, Pair, forecasts, pairs_of
from paredown.search.study.evaluation import UNCOMPRESSED, Evaluation, Failure, FailureKind, Goal
from paredown.search.study.rung import Recipe, Rung
from paredown.spaces.candidates.candidate import Candidate

GOALS = (
    Goal(metric="accuracy", direction="maximize"),
    Goal(metric="onnx_bytes", direction="minimize"),
)
TRAINED = Rung(number=1, recipe=Recipe(trainer="t 1", steps=10))
FURTHER = Rung(number=2, recipe=Recipe(trainer="t 1", steps=30))
NOTHING_KNOWN = Outlook.of_training(GOALS)


def scored(key: str, accuracy: float, rung: Rung | None = None) -> Evaluation:
    return Evaluation(
        number=0,
        key=key,
        candidate=Candidate(),
        rung=rung or Rung(),
        metrics={"accuracy": accuracy, "onnx_bytes": 1.0},
        trained=key if rung else None,
    )


BASE = replace(scored("base", 0.9), kind="reference", label=UNCOMPRESSED)


def learned(*pairs: tuple[float, float]) -> Outlook:
    return NOTHING_KNOWN.learning(
        {"accuracy": [Pair(str(i), *pair) for i, pair in enumerate(pairs)]}
    )


def test_without_training_nothing_is_expected_back():
    lost = np.array([0.1, -0.02])
    outlook = Outlook().learning({"accuracy": [Pair("a", 0.1, 0.05)]})
    assert outlook == Outlook()
    assert outlook.after("accuracy", lost).tolist() == lost.tolist()
    assert outlook.deviation("accuracy", np.array([0.01, 0.02])).tolist() == [0.01, 0.02]


def test_many_pairs_outweigh_the_prior_and_gains_stay():
    outlook = learned(*((0.001 * i, 0.0002 * i) for i in range(1, 61)))
    assert outlook.left["accuracy"] == pytest.approx(0.2, abs=0.02)
    assert set(outlook.left) == {"accuracy"}
    after = outlook.after("accuracy", np.array([0.1, -0.01]))
    assert after.tolist() == pytest.approx([0.1 * outlook.left["accuracy"], -0.01])


def test_one_pair_moves_share_and_spread_as_computed_by_hand():
    # Three pairs of 0.1 that keep 0.45, and one that keeps all: (3 * 0.45 + 1) / 4 = 0.5875. The spread
    # before is 0.225: off by 0.4125 once and by 0.225 three times, the root of the mean square.
    one = learned((0.1, 0.1))
    assert one.left["accuracy"] == pytest.approx(0.5875)
    assert one.spread["accuracy"] == pytest.approx(((0.4125**2 + 3 * 0.225**2) / 4) ** 0.5)


def test_what_was_learned_elsewhere_takes_the_place_of_what_is_built_in():
    elsewhere = learned(*[(0.1, 0.02)] * 60)
    assert elsewhere.left["accuracy"] == pytest.approx((3 * 0.45 + 60 * 0.2) / 63)
    here = elsewhere.learning({"accuracy": [Pair("a", 0.3, 0.3)]})
    assert here.left["accuracy"] == pytest.approx((3 * elsewhere.left["accuracy"] + 1) / 4)


def test_losses_are_those_against_the_uncompressed_model_on_the_same_rows():
    on_all_rows = replace(
        BASE, rung=TRAINED.untrained, metrics={"accuracy": 0.88, "onnx_bytes": 1}
    )
    evaluations = [BASE, scored("a", 0.8), scored("a", 0.85, TRAINED)]
    (pair,) = pairs_of(evaluations, GOALS)["accuracy"]
    assert (pair.before, pair.after) == pytest.approx((0.1, 0.05))
    (pair,) = pairs_of([*evaluations, on_all_rows], GOALS)["accuracy"]
    assert (pair.before, pair.after) == pytest.approx((0.1, 0.03))


def test_the_first_training_counts_whatever_came_of_the_next_one():
    evaluations = [BASE, scored("a", 0.8), scored("a", 0.85, TRAINED), scored("a", 0.9, FURTHER)]
    (pair,) = pairs_of(evaluations, GOALS)["accuracy"]
    assert pair.after == pytest.approx(0.05)


def test_a_smaller_loss_is_better_where_the_metric_says_so():
    goals = (Goal(metric="loss", direction="minimize"),)
    of_loss = [
        replace(each, metrics={"loss": value})
        for each, value in (
            (BASE, 0.25),
            (scored("a", 0), 1.0),
            (scored("a", 0, TRAINED), 0.5),
        )
    ]
    assert pairs_of(of_loss, goals) == {"loss": [Pair("a", 0.75, 0.25)]}


def test_failures_gains_and_what_was_never_scored_before_teach_nothing():
    failure = Failure(kind=FailureKind.RAISED, sentence="no memory")
    evaluations = [
        BASE,
        scored("never", 0.1, TRAINED),
        scored("gained", 0.92),
        scored("gained", 0.91, TRAINED),
        scored("failed", 0.5),
        replace(scored("failed", 0.5, TRAINED), failure=failure, metrics={}, trained=None),
    ]
    pairs = pairs_of(evaluations, GOALS)
    assert pairs == {"accuracy": []}
    assert NOTHING_KNOWN.learning(pairs) == NOTHING_KNOWN


def test_at_best_less_is_left_by_one_deviation():
    expected = NOTHING_KNOWN.left["accuracy"] - NOTHING_KNOWN.spread["accuracy"]
    assert NOTHING_KNOWN.at_best.left["accuracy"] == pytest.approx(expected)
    assert 0 < expected < NOTHING_KNOWN.left["accuracy"]
    assert Outlook().at_best == Outlook()


def test_each_is_expected_by_those_before_it_as_computed_by_hand():
    pairs = {"accuracy": [Pair("a", 0.1, 0.05), Pair("b", 0.2, 0.02)]}
    first, second = forecasts(NOTHING_KNOWN, pairs)["accuracy"]
    # By the share 0.45 and the spread 0.225 of what is built in; 80 % lie within 1.2816 deviations.
    assert (first.key, first.became) == ("a", 0.05)
    assert first.expected == pytest.approx(0.045)
    assert (first.low, first.high) == pytest.approx((0.016164, 0.073836))
    assert first.holds
    assert first.error == pytest.approx(0.005)
    # The share is now (3 * 0.45 + 0.5) / 4 = 0.4625; the first is off it by 0.00375 of 0.1.
    spread = ((0.00375**2 + 3 * 0.1**2 * 0.225**2) / (4 * 0.1**2)) ** 0.5
    assert second.expected == pytest.approx(0.0925)
    assert second.high - second.expected == pytest.approx(1.2816 * 0.2 * spread)
    assert second.low == pytest.approx(0.0423, abs=1e-4)
    assert not second.holds
    assert second.error == pytest.approx(-0.0725)


def test_what_comes_later_changes_no_expectation():
    pairs = [Pair(f"{i}", 0.1 + 0.01 * i, 0.02 * i) for i in range(6)]
    whole = forecasts(NOTHING_KNOWN, {"accuracy": pairs})["accuracy"]
    for count in range(6):
        assert forecasts(NOTHING_KNOWN, {"accuracy": pairs[:count]})["accuracy"] == whole[:count]
    assert forecasts(Outlook(), {"accuracy": pairs}) == {}


def test_four_of_five_outcomes_lie_within_the_interval_where_shares_are_normal():
    generator = np.random.default_rng(0)
    before = generator.uniform(0.01, 0.2, 3000)
    after = before * generator.normal(0.4, 0.15, 3000)
    pairs = [Pair("", *pair) for pair in zip(before, after, strict=True)]
    known = NOTHING_KNOWN.learning({"accuracy": pairs[:1000]})
    held = [f.holds for f in forecasts(known, {"accuracy": pairs[1000:1400]})["accuracy"]]
    assert np.mean(held) == pytest.approx(0.8, abs=0.05)
