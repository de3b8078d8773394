"""Shares and patterns of zeros: in order, without doubles, and none that no goal feels."""

from __future__ import annotations

from paredown.search.space.sparsity_rules import sparsity_domain
from paredown.spaces.candidates.zeros import Zeros


def test_fewest_zeros_come_first_and_of_as_many_the_least_harmful() -> None:
    found = sparsity_domain(
        (0.7, 0.0, 0.5), ("block", "2:4", "element"), lambda _: True, lambda _: None
    )
    assert found == (
        Zeros(),
        Zeros(0.5, "element"),
        Zeros(0.5, "2:4"),
        Zeros(0.5, "block"),
        Zeros(0.7, "element"),
        Zeros(0.7, "block"),
    )


def test_a_pattern_that_no_goal_feels_is_told_and_gone() -> None:
    told: list[str] = []
    felt = {"2:4"}
    found = sparsity_domain((0.0, 0.6), ("element", "2:4"), lambda p: p in felt, told.append)
    assert found == (Zeros(), Zeros(0.5, "2:4"))
    assert told == ["element"]


def test_where_nothing_is_left_the_layer_is_dense() -> None:
    assert sparsity_domain((0.6,), ("element",), lambda _: False, lambda _: None) == (Zeros(),)
    assert sparsity_domain((0.0,), ("2:4",), lambda _: True, lambda _: None) == (Zeros(),)
