"""The surrogate against invented truths: factors learned, intervals honest."""

import numpy as np
import pytest

from paredown.search.proposing.pareto.surrogate import Surrogate

KINDS = ("layer",) * 8 + ("width",) * 4
SLACK = 0.1
"""Ten points of accuracy."""


def damages(count, generator, scale=0.05):
    """(count, 12): some decisions of candidates at their identity, the others of all sizes."""
    found = generator.exponential(scale, (count, len(KINDS)))
    found[:, 8:] /= 6
    return found * (generator.random(found.shape) < 0.6)


def truth_of(seed, noise):
    """A quality lost by twelve decisions, whose factors depart from those of their kinds."""
    generator = np.random.default_rng(seed)
    kind = np.where(np.arange(12) < 8, 0.25, 1.5) * np.exp(generator.normal(0, 0.5))
    factor = kind * np.exp(generator.normal(0, 0.4, 12))

    def lost(rows):
        return rows @ factor

    def score(rows):
        return lost(rows) + noise * generator.normal(size=len(rows))

    return lost, score


def noise_of(model):
    """Of scores of a model that loses nothing, for sure."""
    return float(model.of_scores(np.zeros(1), np.zeros(1))[0])


def test_before_any_data_it_is_the_prior():
    model = Surrogate.prior(KINDS, SLACK)
    rows = np.zeros((3, 12))
    rows[1, 0] = 0.01
    rows[2, 0] = 0.02
    mean, deviation = model.predict(rows)
    assert mean[0] == deviation[0] == 0.0, "the uncompressed model loses nothing, and that is sure"
    assert 0 < mean[1] < mean[2]
    assert mean[2] == pytest.approx(2 * mean[1])
    assert 0 < deviation[1] < deviation[2]


def test_losses_are_measured_in_the_qualitys_own_slack():
    rows = damages(5, np.random.default_rng(0))
    lost = rows.sum(axis=1)
    small = Surrogate.prior(KINDS, 0.1).learning(rows, 0.1 * lost)
    large = Surrogate.prior(KINDS, 5.0).learning(rows, 5.0 * lost)
    new = damages(9, np.random.default_rng(1))
    for one, other in zip(small.predict(new), large.predict(new), strict=True):
        assert 50 * one == pytest.approx(other)
    assert 50 * noise_of(small) == pytest.approx(noise_of(large))


def test_factors_of_kinds_are_learned():
    generator = np.random.default_rng(1)
    rows, new = damages(60, generator), damages(200, generator)
    factor = np.where(np.arange(12) < 8, 0.1, 4.0)  # a fifth, and four times what is expected
    prior = Surrogate.prior(KINDS, SLACK)
    model = prior.learning(rows, rows @ factor + 0.001 * generator.normal(size=60))
    off, before = (np.abs(m.predict(new)[0] - new @ factor).mean() for m in (model, prior))
    assert off < 0.1 * before
    assert off < 0.1 * (new @ factor).mean()


def test_targets_learn_factors_of_their_own():
    generator = np.random.default_rng(2)
    rows, new = damages(60, generator), damages(200, generator)
    factor = np.where(np.arange(12) < 8, 0.25, 1.0) * np.linspace(0.5, 1.5, 12)
    model = Surrogate.prior(KINDS, SLACK).learning(rows, rows @ factor)
    common = np.linalg.lstsq(
        np.stack([rows[:, :8].sum(axis=1), rows[:, 8:].sum(axis=1)], axis=1), rows @ factor
    )[0]
    plain = new[:, :8].sum(axis=1) * common[0] + new[:, 8:].sum(axis=1) * common[1]
    error = np.abs(model.predict(new)[0] - new @ factor).mean()
    assert error < 0.35 * np.abs(plain - new @ factor).mean()


@pytest.mark.parametrize("count", [10, 40])
def test_intervals_of_90_percent_hold_about_90_percent(count):
    held = []
    for seed in range(12):
        generator = np.random.default_rng(50 + seed)
        _, score = truth_of(seed, noise=0.004)
        rows, new = damages(count, generator, 0.02), damages(100, generator, 0.02)
        model = Surrogate.prior(KINDS, SLACK).learning(rows, score(rows))
        mean, deviation = model.predict(new)
        within = np.abs(mean - score(new)) < 1.645 * model.of_scores(mean, deviation)
        held.append(within.mean())
    assert 0.82 <= np.mean(held) <= 0.99
    assert min(held) > 0.6


def test_the_noise_of_scores_is_learned():
    found = []
    for noise in (0.001, 0.01):
        generator = np.random.default_rng(3)
        rows = damages(80, generator, 0.02)
        lost = rows @ np.where(np.arange(12) < 8, 0.5, 3.0) / 3
        model = Surrogate.prior(KINDS, SLACK).learning(
            rows, lost + noise * generator.normal(size=80)
        )
        found.append(noise_of(model))
    assert found[1] > 1.3 * found[0]


def test_a_target_never_seen_is_less_sure():
    generator = np.random.default_rng(4)
    rows = damages(40, generator)
    rows[:, 3] = 0.0
    # Targets depart from their kind's factor, so that the next one may as well.
    factor = np.where(np.arange(12) < 8, 0.2, 1.2) * np.tile([0.5, 1.0, 1.5], 4)
    model = Surrogate.prior(KINDS, SLACK).learning(rows, rows @ factor)
    seen, unseen = np.zeros((2, 1, 12))
    seen[0, 1] = unseen[0, 3] = 0.05
    mean, deviation = model.predict(np.vstack([seen, unseen]))
    assert mean[0] == pytest.approx(0.05 * factor[1], rel=0.2)
    assert mean[1] == pytest.approx(0.05 * 0.2, rel=0.5)
    assert deviation[1] > 1.5 * deviation[0]


def test_what_was_seen_is_surer_than_before_and_than_what_is_far():
    rows = damages(20, np.random.default_rng(5))
    prior = Surrogate.prior(KINDS, SLACK)
    model = prior.learning(rows, 0.2 * rows.sum(axis=1), refit=False)
    before, after = prior.predict(rows)[1], model.predict(rows)[1]
    assert (after < before).all()
    assert (model.predict(4 * rows)[1] > after).all()


def test_without_a_refit_factors_stay_and_candidates_count_all_the_same():
    generator = np.random.default_rng(6)
    rows = damages(30, generator)
    lost = rows @ np.where(np.arange(12) < 8, 0.2, 1.2)
    prior = Surrogate.prior(KINDS, SLACK)
    first = prior.learning(rows[:20], lost[:20])
    assert not np.allclose(first.logs, prior.logs)
    second = first.learning(rows, lost, refit=False)
    assert (second.logs == first.logs).all()
    assert len(second.lost) == 30
    # The posterior is that of all thirty under the factors of the first.
    off = np.abs(first.predict(rows[20:])[0] - lost[20:]).mean()
    assert np.abs(second.predict(rows[20:])[0] - lost[20:]).mean() < off


def test_one_candidate_twice_and_a_hopeless_one_break_nothing():
    rows = damages(12, np.random.default_rng(7))
    rows[1] = rows[0]
    lost = 0.2 * rows.sum(axis=1)
    rows[2], lost[2] = 50.0, 0.8
    model = Surrogate.prior(KINDS, SLACK).learning(rows, lost)
    mean, deviation = model.predict(rows)
    assert np.isfinite(mean).all()
    assert (deviation > 0).all()
    # What lost far more than counts says little of those near the uncompressed model.
    assert mean[3:] == pytest.approx(lost[3:], abs=0.02)


def test_nothing_learned_is_the_prior():
    prior = Surrogate.prior(KINDS, SLACK)
    model = prior.learning(np.zeros((0, 12)), np.zeros(0))
    rows = damages(4, np.random.default_rng(8))
    assert (model.predict(rows)[0] == prior.predict(rows)[0]).all()


def test_a_difference_is_that_of_the_means_and_surer_than_both():
    generator = np.random.default_rng(5)
    lost, score = truth_of(5, noise=0.002)
    rows = damages(60, generator)
    model = Surrogate.prior(KINDS, SLACK).learning(rows, score(rows))
    chosen = damages(30, generator)
    without = chosen.copy()
    without[:, 3] = 0.0
    mean, deviation = model.difference(chosen, without)
    (one, off_one), (other, off_other) = model.predict(chosen), model.predict(without)
    assert mean == pytest.approx(one - other)
    changed = chosen[:, 3] > 0
    assert (deviation[changed] < np.hypot(off_one, off_other)[changed]).mean() > 0.9
    assert mean[~changed] == pytest.approx(0.0, abs=1e-12)
    assert deviation[~changed].max() < 1e-4
    off = (mean - (lost(chosen) - lost(without)))[changed]
    assert (np.abs(off) < 3 * deviation[changed]).mean() > 0.9


def test_before_any_data_a_difference_has_the_deviation_of_what_differs():
    model = Surrogate.prior(KINDS, SLACK)
    row = np.zeros((1, 12))
    row[0, 0] = 0.01
    mean, deviation = model.difference(row, np.zeros((1, 12)))
    expected = model.predict(row)
    assert mean == pytest.approx(expected[0])
    assert deviation == pytest.approx(expected[1])
