from __future__ import annotations

import pytest

from paredown.hardware_models.latency.agreement import accuracy


def test_errors_ranks_and_pairs_by_hand():
    found = accuracy([1.1, 1.8, 3.0, 2.9], [1.0, 2.0, 3.0, 3.1])
    assert found.mape == pytest.approx((0.1 + 0.1 + 0.0 + 0.2 / 3.1) / 4)
    assert found.networks == 4
    # One swap of neighbours in four: 1 - 6 * 2 / (4 * 15).
    assert found.spearman == pytest.approx(0.8)
    # The swapped pair differs by 3 % only, so it does not count.
    assert found.pairs_ordered == 1.0


def test_networks_that_are_all_alike_have_no_pairs_to_order():
    assert accuracy([1.0, 1.1, 0.9], [1.0, 1.01, 1.02]).pairs_ordered is None


def test_a_tie_is_not_an_order():
    assert accuracy([1.0, 1.0, 2.0], [1.0, 2.0, 4.0]).pairs_ordered == pytest.approx(2 / 3)
