"""What is expected of a small space against its closed form over all candidates."""

import itertools

import numpy as np
import pytest

from paredown.search.proposing.improvement import expected_gain
from paredown.search.proposing.outlook import Outlook
from paredown.search.proposing.pareto.expecting import Expectation
from paredown.search.proposing.pareto.problem import Choices, Damage, Prices
from paredown.search.proposing.pareto.surrogate import Surrogate
from paredown.search.study.evaluation import Goal

SIZES = (4,) * 5
SPACE = Choices(names=tuple("abcde"), sizes=SIZES, ordered=(True,) * 5)
ALL = np.array(list(itertools.product(*map(range, SIZES))), np.int64)
WEIGHTS = np.array([0.1, 0.3, 0.2, 0.15, 0.25])
"""Shares of the bytes; a code of 3 saves three quarters of its share."""
HARM = np.array([0.05, 0.02, 0.08, 0.01, 0.04])
ACCURACY = Goal(metric="accuracy", direction="maximize")
BYTES = Goal(metric="onnx_bytes", direction="minimize")
SECONDS = Goal(metric="latency_s", direction="minimize")
NONE = np.zeros((0, 5), np.int64)


def terms(codes):
    return HARM * (codes / 3) ** 2


def stored(codes):
    return 1e5 * (1 - codes / 4 @ WEIGHTS)[:, None]


def taken_s(codes):
    return 1e-3 * (1 - 0.2 * codes[:, :1] / 3 - 0.3 * codes[:, 4:] / 3)


def both(codes):
    return np.hstack([stored(codes), taken_s(codes)])


def expectation(goals=(ACCURACY, BYTES), prices=stored, uncompressed=(0.9, 1e5), **more):
    return Expectation(
        choices=SPACE,
        prices=prices if isinstance(prices, Prices) else Prices(quick=prices),
        damage=Damage(terms=terms, kinds=("layer",) * 5),
        goals=goals,
        uncompressed=np.array(uncompressed),
        **more,
    )


def accuracy(codes):
    return 0.9 - 0.4 * terms(codes).sum(axis=1) * (1 + codes[:, 0] / 3)


SEEN = ALL[np.random.default_rng(0).choice(len(ALL), 12, replace=False)]


def learned(**more):
    found = expectation(**more)
    for row in SEEN:
        found.learn(row, np.array([accuracy(row[None])[0], *found.prices.quick(row[None])[0]]))
    return found


def gains_of(codes, model, front, costs, worst, best):
    """Expected gains by the closed form, in (accuracy lost, logarithms of costs)."""
    mean, deviation = model.predict(terms(codes))
    return expected_gain(mean - 0.9, deviation, np.log(costs(codes)), front, worst, best)


def test_before_anything_is_known_the_best_is_that_of_the_whole_space():
    codes, gain = next(iter(expectation().best(NONE)))
    model = Surrogate.prior(("layer",) * 5, 0.1)
    worst = np.array([-0.8, np.log(1e5)])
    front = np.array([[-0.9, np.log(1e5)]])
    gains = gains_of(ALL, model, front, stored, worst, -0.9)
    assert gain == pytest.approx(gains.max())
    assert codes.tolist() == ALL[np.argmax(gains)].tolist()


@pytest.mark.parametrize("prices", [stored, both])
def test_after_learning_the_best_is_that_of_the_whole_space(prices):
    goals = (ACCURACY, BYTES) if prices is stored else (ACCURACY, BYTES, SECONDS)
    origin = (0.9, *prices(np.zeros((1, 5)))[0])
    found = learned(goals=goals, prices=prices, uncompressed=origin)
    codes, gain = next(iter(found.best(NONE)))
    model = found._models["accuracy"]
    assert model.lost == pytest.approx((0.9 - accuracy(SEEN)) / 0.1)
    believed = np.column_stack([model.predict(terms(SEEN))[0] - 0.9, np.log(prices(SEEN))])
    front = np.vstack([np.array([[-0.9, *np.log(origin[1:])]]), believed])
    worst = np.array([-0.8, *np.log(origin[1:])])
    gains = gains_of(ALL, model, front, prices, worst, -0.9)
    assert gain == pytest.approx(gains.max(), rel=1e-6)
    assert gains[(codes == ALL).all(axis=1)][0] == pytest.approx(gains.max(), rel=1e-6)


def test_candidates_come_in_the_order_of_their_gain_each_once():
    found = list(learned().best(NONE))
    gains = [gain for _, gain in found]
    assert gains == sorted(gains, reverse=True)
    assert len({tuple(codes.tolist()) for codes, _ in found}) == len(found) > 50


def test_what_is_pending_is_worth_next_to_nothing_and_its_like_less():
    codes, gain = next(iter(learned().best(NONE)))
    found = learned()
    after = {tuple(c.tolist()): g for c, g in found.best(codes[None])}
    before = {tuple(c.tolist()): g for c, g in learned().best(NONE)}
    assert after.get(tuple(codes.tolist()), 0.0) < 0.5 * gain
    near = [c for c in before.keys() & after.keys() if np.abs(np.array(c) - codes).sum() == 1]
    assert near
    assert all(after[c] < before[c] for c in near)
    assert max(after.values()) < gain


def test_a_batch_is_spread_over_the_front():
    found = learned()
    pending = NONE
    for _ in range(6):
        known = {tuple(row) for row in pending.tolist()}
        new = next(c for c, _ in found.best(pending) if tuple(c.tolist()) not in known)
        pending = np.vstack([pending, new])
    prices = np.log(stored(pending))
    assert np.ptp(prices) > 0.5, "from the large to the small"


def test_what_has_no_price_is_never_worth_anything():
    def priced(codes):
        return np.where(codes[:, 1:2] == 2, np.nan, stored(codes))

    found = learned(prices=priced)
    gains = {tuple(c.tolist()): g for c, g in found.best(NONE)}
    assert any(c[1] == 2 for c in gains)
    assert all(g == 0 for c, g in gains.items() if c[1] == 2)
    assert next(iter(found.best(NONE)))[0][1] != 2


def test_a_bound_on_a_cost_is_kept_and_gains_are_counted_within_it():
    bound = 5e4
    bounded = Goal(metric="onnx_bytes", direction="minimize", at_most=bound)
    found = learned(goals=(ACCURACY, bounded))
    gains = [(stored(c[None])[0, 0], g) for c, g in found.best(NONE)]
    assert any(g > 0 for _, g in gains)
    assert all(g == 0 for price, g in gains if price >= bound)


def test_a_bound_on_the_quality_leaves_out_what_surely_breaks_it():
    bounded = Goal(metric="accuracy", direction="maximize", at_least=0.89)
    free, found = learned(), learned(goals=(bounded, BYTES))
    wanted = accuracy(next(iter(found.best(NONE)))[0][None])[0]
    assert wanted > accuracy(next(iter(free.best(NONE)))[0][None])[0]
    assert wanted > 0.885


def test_nothing_counts_as_better_than_the_uncompressed_model():
    """Lucky scores: the mildest candidates have some points more than the uncompressed model."""
    found = expectation()
    for row in SEEN:
        lucky = 0.05 if terms(row[None]).sum() < 0.06 else 0.0
        value = accuracy(row[None])[0] + lucky
        found.learn(row, np.array([value, stored(row[None])[0, 0]]))
    for codes, gain in found.best(NONE):
        box = 0.1 * np.log(1e5 / stored(codes[None])[0, 0])
        assert gain <= box + 1e-9, "the whole of the margin over all of the saved bytes, no more"


def test_the_uncompressed_model_is_worth_nothing():
    gains = {tuple(c.tolist()): g for c, g in learned().best(NONE)}
    assert gains.get((0,) * 5, 0.0) == pytest.approx(0.0, abs=1e-9)


def test_predictions_hold_the_noise_of_scores():
    found = learned()
    mean, deviation = found.predict("accuracy", ALL)
    assert (deviation > found._models["accuracy"].predict(terms(ALL))[1]).all()
    assert np.abs(mean - (0.9 - accuracy(ALL))).mean() < 0.01


def test_what_training_gives_back_makes_harm_worth_more():
    """Where half of what is lost comes back, smaller candidates are worth going for."""
    plain = learned()
    trained = learned(outlook=Outlook(left={"accuracy": 0.3}, spread={"accuracy": 0.1}))
    first, second = (next(iter(each.best(NONE)))[0][None] for each in (plain, trained))
    assert terms(second).sum() > terms(first).sum()
    assert stored(second)[0, 0] < stored(first)[0, 0]


def test_quick_prices_that_are_off_are_replaced_where_one_is_picked():
    """The quick price says that the last choice saves most, the exact one that it costs."""

    def exact(codes):
        return stored(codes) * np.exp(codes[:, 4:] / 2)

    asked = []

    def counted(codes):
        asked.append(len(codes))
        return exact(codes)

    def best(prices):
        found = expectation(prices=prices)
        for row in SEEN:
            found.learn(row, np.array([accuracy(row[None])[0], exact(row[None])[0, 0]]))
        return found, next(iter(found.best(NONE)))

    found, (codes, gain) = best(Prices(quick=stored, exact=counted))
    assert asked, "scores showed that quick prices are off"
    assert max(asked) < 50, "only the few most promising ones"
    _, (_, promised) = best(Prices(quick=stored))
    assert gain < promised
    right = found._gain(codes[None], exact(codes[None]), found._models, found._front)
    assert gain == pytest.approx(right[0])
    asked.clear()
    found = learned(prices=Prices(quick=stored, exact=counted))
    next(iter(found.best(NONE)))
    assert not asked, "quick prices that were right are believed"


def test_a_quality_that_is_minimised_and_a_second_one_beside_it():
    """Perplexity, whose margin is half of its own, and accuracy beside it; costs between them."""
    perplexity = Goal(metric="perplexity", direction="minimize")
    found = expectation(goals=(perplexity, BYTES, ACCURACY), uncompressed=(20.0, 1e5, 0.9))
    for row in SEEN:
        lost = 0.9 - accuracy(row[None])[0]
        found.learn(row, np.array([20 + 100 * lost, stored(row[None])[0, 0], 0.9 - lost]))
    codes, gain = next(iter(found.best(NONE)))
    assert gain > 0
    for metric, scale in (("perplexity", 100.0), ("accuracy", 1.0)):
        mean, _ = found.predict(metric, codes[None])
        assert mean[0] == pytest.approx(scale * (0.9 - accuracy(codes[None])[0]), abs=0.01 * scale)


def test_the_same_is_expected_twice():
    one, two = ([(c.tolist(), g) for c, g in learned().best(NONE)] for _ in range(2))
    assert one == two
