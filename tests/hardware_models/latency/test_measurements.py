"""Latencies are checked before a fit, those of a second time as well."""

from __future__ import annotations

import pytest

from paredown.hardware_models.latency.measurements import CalibrationError, both_times


def test_without_a_second_time_the_first_is_all():
    first, mean, again = both_times(["a", "b"], [1.0, 3.0], None, fewest=2)
    assert first.tolist() == mean.tolist() == [1.0, 3.0]
    assert again is None


def test_two_times_are_fitted_to_on_average():
    first, mean, again = both_times(["a", "b"], [1.0, 3.0], [2.0, 5.0], fewest=2)
    assert (first.tolist(), mean.tolist(), again.tolist()) == ([1.0, 3.0], [1.5, 4.0], [2.0, 5.0])


@pytest.mark.parametrize(
    ("again", "says"),
    [([1.0], "one latency"), ([1.0, 0.0], "above zero"), ([1.0, float("nan")], "finite")],
)
def test_the_second_time_is_checked_like_the_first(again, says):
    with pytest.raises(CalibrationError, match=says):
        both_times(["a", "b"], [1.0, 3.0], again, fewest=2)
    with pytest.raises(CalibrationError, match=says):
        both_times(["a", "b"], again, [1.0, 3.0], fewest=2)
