"""Channels that shrink together: a union-find against one written by hand, and reasons that travel."""

import random

import pytest

from paredown.spaces.graph.graph import Graph
from paredown.spaces.structure.model_map import Part
from paredown.spaces.structure.ties import Layout, Ties, size_of


@pytest.fixture
def ties():
    empty = Graph(
        nodes=(), inputs=(), input_shapes=(), input_dtypes=(), outputs=(), output_keys=()
    )
    made = Ties(empty, {}, {})
    for name in "abcdefgh":
        made.open(name)
    return made


def one(name, channels=4, repeat=1):
    return (Part(name, channels, repeat),)


@pytest.mark.parametrize("seed", range(20))
def test_groups_are_the_connected_parts_and_a_reason_freezes_all_of_one(ties, seed):
    rng = random.Random(seed)
    sets = {name: {name} for name in "abcdefgh"}
    frozen = {}
    for step in range(8):
        a, b = rng.sample("abcdefgh", 2)
        if rng.random() < 0.3:
            ties.freeze(one(a), f"reason {step}")
            frozen.setdefault(a, step)
        else:
            ties.unite(one(a), one(b), "here")
            union = sets[a] | sets[b]
            for name in union:
                sets[name] = union
    for name in "abcdefgh":
        # The name of the one opened first.
        assert ties.root(name) == min(sets[name])
        assert (ties.reason(name) is not None) == any(each in frozen for each in sets[name])
    assert {root: set(names) for root, names in ties.members().items()} == {
        min(each): each for each in sets.values()
    }


def test_the_first_reason_stays(ties):
    ties.freeze(one("a"), "first")
    ties.freeze(one("a"), "second")
    assert ties.reason("a") == "first"
    ties.unite(one("b"), one("a"), "here")
    assert ties.reason("b") == "first"


def test_channels_of_another_structure_freeze_both(ties):
    found = ties.unite((*one("a", 2), *one("b", 6)), one("c", 8), "the sum")
    assert found == (Part(None, 8),)
    assert "the sum" in ties.reason("a")
    assert ties.reason("b") == ties.reason("c") == ties.reason("a")
    assert ties.root("a") != ties.root("c")


def test_what_meets_fixed_channels_cannot_change(ties):
    ties.unite(one("a"), one(None), "the sum")
    assert "cannot change" in ties.reason("a")


def test_a_tensor_that_two_values_read_ties_their_channels(ties):
    ties.note_tensor("weight", 0, one("a"))
    ties.note_tensor("weight", 1, one("c"))
    ties.note_tensor("weight", 0, one("b"))
    assert ties.root("b") == ties.root("a") != ties.root("c")


def test_settled_parts_keep_their_size_and_fixed_neighbours_are_one(ties):
    ties.unite(one("a"), one("b"), "here")
    ties.freeze(one("c"), "why")
    parts = (*one("b", 4, 3), *one(None, 5), *one("c", 4, 2), *one("d", 4))
    assert ties.settled(parts) == (Part("a", 4, 3), Part(None, 13), Part("d", 4))
    assert size_of(ties.settled(parts)) == size_of(parts) == Layout(1, parts).size == 29


def test_a_value_without_channels_is_left_alone(ties):
    ties.layouts["x"] = Layout(1, one("a"))
    ties.freeze_value("y", "why")
    assert ties.reason("a") is None
    ties.freeze_value("x", "why")
    assert ties.reason("a") == "why"
