"""Damages where nothing is known: how far every choice stands from its first value."""

import numpy as np
import pytest

from paredown.search.proposing.pareto.problem import Choices, positions

CHOICES = Choices(names=("bits", "method", "one"), sizes=(5, 3, 1), ordered=(True, False, True))


def test_ordered_choices_grow_and_others_have_a_column_a_value():
    damage = positions(CHOICES)
    assert damage.kinds == ("choice",) * 4
    found = damage.terms(np.array([[0, 0, 0], [2, 1, 0], [4, 2, 0]]))
    third = pytest.approx(1 / 3)
    assert (found[0] == 0).all(), "the first value of everything harms nothing"
    assert found[1].tolist() == [pytest.approx(1 / 6), third, 0, 0]
    assert found[2].tolist() == [third, 0, third, 0]


def test_all_choices_at_their_last_value_add_up_to_one():
    space = Choices(names=tuple("abcd"), sizes=(2, 3, 4, 5), ordered=(True, True, False, True))
    assert space.count == 4
    found = positions(space).terms(np.array([[1, 2, 3, 4]]))
    assert found.sum() == pytest.approx(1.0)
