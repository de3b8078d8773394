"""One latency out of a population."""

import numpy as np
import pytest

from paredown.hardware_models.latency.estimate import Estimate, Estimates


def test_a_member_of_a_population_is_an_estimate_of_plain_numbers():
    population = Estimates(
        value_s=np.array([2.0, 4.0, 8.0]),
        low_s=np.array([1.0, 2.0, 4.0]),
        high_s=np.array([3.0, 6.0, 12.0]),
        source="test",
        held_out_mape=0.1,
    )
    assert len(population) == 3
    expected = Estimate(value_s=4.0, low_s=2.0, high_s=6.0, source="test", held_out_mape=0.1)
    assert population[1] == expected
    assert population[-1].high_s == 12.0
    # Plain floats, as they are written to JSON.
    assert {type(getattr(population[0], name)) for name in ("value_s", "low_s", "high_s")} == {
        float
    }
    assert [each.value_s for each in population] == [2.0, 4.0, 8.0]
    with pytest.raises(IndexError):
        population[3]
