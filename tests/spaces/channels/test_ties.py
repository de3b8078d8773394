"""Channels that meet shrink together; what cannot be the same on both sides never changes."""

from __future__ import annotations

import pytest

from paredown.spaces.channels.parts import Part, size_of
from paredown.spaces.channels.ties import Layout, Ties
from paredown.spaces.graph.graph import Graph


@pytest.fixture
def ties() -> Ties:
    found = Ties(
        Graph(nodes=(), inputs=(), input_shapes=(), input_dtypes=(), outputs=(), output_keys=()),
        {},
    )
    for name in "abc":
        found.open(name)
    return found


def test_groups_that_meet_are_one_under_the_name_that_was_first(ties: Ties) -> None:
    ties.unite((Part("b", 4),), (Part("c", 4),), "there")
    ties.unite((Part("c", 4),), (Part("a", 4),), "there")
    assert ties.members() == {"a": ("a", "b", "c")}
    assert ties.settled((Part("c", 4, 2),)) == (Part("a", 4, 2),)


def test_a_reason_reaches_what_is_tied_later_and_the_first_one_stays(ties: Ties) -> None:
    ties.freeze((Part("b", 4),), "first")
    ties.freeze((Part("b", 4),), "second")
    ties.unite((Part("a", 4),), (Part("b", 4),), "there")
    assert ties.reason("a") == ties.reason("b") == "first"
    assert ties.reason("c") is None


def test_channels_of_other_structures_freeze_each_other(ties: Ties) -> None:
    united = ties.unite((Part("a", 4),), (Part("b", 2), Part("c", 2)), "there")
    assert united == (Part(None, 4),)
    assert "another structure" in (ties.reason("a") or "")
    assert "another structure" in (ties.reason("b") or "")


def test_channels_that_meet_fixed_ones_are_fixed(ties: Ties) -> None:
    ties.unite((Part("a", 4),), (Part(None, 4),), "there")
    assert "cannot change" in (ties.reason("a") or "")


def test_fixed_neighbours_are_one_part(ties: Ties) -> None:
    ties.freeze((Part("b", 3),), "why not")
    parts = (Part(None, 1), Part("b", 3, 2), Part("a", 4))
    assert ties.settled(parts) == (Part(None, 7), Part("a", 4))
    assert size_of(parts) == Layout(1, parts).size == 11


def test_a_tensor_that_is_met_twice_ties_both(ties: Ties) -> None:
    ties.note_tensor("weight", 0, (Part("a", 4),))
    ties.note_tensor("weight", 1, (Part("c", 4),))
    ties.note_tensor("weight", 0, (Part("b", 4),))
    assert ties.root("b") == "a"
    assert ties.root("c") == "c"


def test_a_channel_that_meets_several_is_all_of_them(ties: Ties) -> None:
    ties.note_tensor("rows", 0, (Part("a", 8), Part("c", 1)))
    assert ties.unite((Part("a", 8),), (Part("b", 2, 4),), "there") == (Part("a", 2, 4),)
    assert ties.tensor_parts["rows", 0] == (Part("a", 2, 4), Part("c", 1))
    assert ties.members()["a"] == ("a", "b")


def test_folded_neighbours_and_tiled_runs_are_so_everywhere(ties: Ties) -> None:
    ties.layouts["value"] = Layout(1, (Part("c", 1), Part("a", 12)))
    ties.note_tensor("rows", 0, (Part("a", 12),))
    assert ties.tile((Part("a", 12),), Part("a", 12), 3) == (Part("a", 4),) * 3
    assert ties.fold((), Part("a", 4), 2) == ()
    assert ties.layouts["value"].parts == (Part("c", 1), *(Part("a", 2, 2),) * 3)
    assert ties.tensor_parts["rows", 0] == (Part("a", 2, 2),) * 3


def test_what_is_cut_off_is_a_group_of_its_own_everywhere(ties: Ties) -> None:
    ties.note_tensor("rows", 0, (Part("a", 6, 2),))
    assert ties.cut((Part("a", 6, 2), Part("b", 4)), 4, 14) == (Part("a.2", 4, 2), Part("b", 2))
    assert ties.tensor_parts["rows", 0] == (Part("a", 2, 2), Part("a.2", 4, 2))
    assert ties.cut((Part("a", 2, 2),), 1, 4) is None
    ties.freeze((Part("b", 2),), "why not")
    assert ties.cut((Part("b", 2), Part("c", 4)), 0, 1) == (Part("b", 1),)
    assert ties.reason("b.1") == "why not"
