"""What is held out is not seen, but for the reference, which every fit sees."""

from __future__ import annotations

import numpy as np
import pytest

from paredown.hardware_models.latency.cross_fitting import cross_fit, folds_of, held_out_errors


def rows_of(count: int) -> np.ndarray:
    return np.arange(count, dtype=float)[:, None] + 1


def test_no_network_is_predicted_by_a_fit_that_saw_it():
    rows, times = rows_of(33), 2 * rows_of(33)[:, 0]

    def predict(fitted, times_s, held):
        assert not set(fitted[:, 0]) & set(held[:, 0])
        assert len(fitted) >= 26
        return 4 * held[:, 0]

    assert held_out_errors(rows, times, predict) == pytest.approx(-0.5)


def test_the_reference_is_in_every_fit_and_not_scored():
    rows = rows_of(40)
    rows[7] = rows[0]
    times = rows[:, 0].copy()
    times[7] = 3.0
    is_reference = (rows == rows[0]).all(axis=1)

    def predict(fitted, times_s, held):
        # Of each fit: the reference both times it was measured, asked for last.
        assert (fitted == 1.0).sum() == 2
        assert held[-1] == 1.0
        assert (held == 1.0).sum() == 1
        return held[:, 0] * np.where(held[:, 0] == 1.0, 4.0, 2.0)

    found = cross_fit(rows, times, predict, folds_of(40), is_reference)
    assert found.networks.tolist() == [i for i in range(40) if i not in (0, 7)]
    assert found.seconds == pytest.approx(-0.5)
    # Measured over the reference's mean of 2, predicted over its 4.
    assert found.ratio == pytest.approx((1 / 2) / (2 / 4) - 1)


def test_without_a_reference_there_is_no_ratio():
    found = cross_fit(rows_of(20), rows_of(20)[:, 0], lambda *a: a[2][:, 0], folds_of(20))
    assert found.ratio is None
    assert found.mape == 0.0


def test_a_group_is_held_out_whole():
    groups = [g for g in (3, 9, 11, 12, 40, 41, 50) for _ in range(4)]
    fold = folds_of(28, groups)
    assert set(fold) == {0, 1, 2, 3, 4}
    assert all(len(set(fold[i : i + 4])) == 1 for i in range(0, 28, 4))


def test_few_networks_are_held_out_alone():
    assert folds_of(19).tolist() == list(range(19))
    assert len(set(folds_of(20))) == 5


def test_errors_are_of_the_second_time_where_there_is_one():
    """A machine twice as slow the second time: all seconds are off by 100 %, no ratio is off."""
    rows = np.arange(1.0, 31.0)[:, None]
    times_s = rows[:, 0] * 1e-3
    held = cross_fit(
        rows,
        times_s,
        lambda seen, times, asked: asked[:, 0] * (times / seen[:, 0]).mean(),
        folds_of(30),
        rows[:, 0] == 1.0,
        2 * times_s,
    )
    assert held.seconds == pytest.approx(np.ones(29))
    assert held.ratio == pytest.approx(np.zeros(29), abs=1e-12)
