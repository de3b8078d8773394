"""Shares and patterns of zeros: in order, without doubles, and none that no goal feels."""

from __future__ import annotations

from paredown.search.space.sparsity_rules import sparsity_domain


def test_fewest_zeros_come_first_and_of_as_many_the_least_harmful() -> None:
    found = sparsity_domain(
        (0.7, 0.0, 0.5), ("block", "2:4", "element"), lambda _: True, lambda _: None
    )
    assert found == (
        (0.0, "dense"),
        (0.5, "element"),
        (0.5, "2:4"),
        (0.5, "block"),
        (0.7, "element"),
        (0.7, "block"),
    )


def test_a_pattern_that_no_goal_feels_is_told_and_gone() -> None:
    told: list[str] = []
    felt = {"2:4"}
    found = sparsity_domain((0.0, 0.6), ("element", "2:4"), lambda p: p in felt, told.append)
    assert found == ((0.0, "dense"), (0.5, "2:4"))
    assert told == ["element"]


def test_where_nothing_is_left_the_layer_is_dense() -> None:
    assert sparsity_domain((0.6,), ("element",), lambda _: False, lambda _: None) == (
        (0.0, "dense"),
    )
    assert sparsity_domain((0.0,), ("2:4",), lambda _: True, lambda _: None) == ((0.0, "dense"),)
