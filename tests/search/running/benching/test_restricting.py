"""Parts of a space: every knob has its dimension, and what is closed stands where it harms least."""

from __future__ import annotations

import random

import pytest

from paredown.search.running.benching.restricting import DIMENSIONS, dimensions_of, restricted
from paredown.spaces.knobs.space import Space


def drawn(space: Space, seed: int):
    made = random.Random(seed)
    return space.decode({n: made.randrange(size) for n, size in space.dimensions().items()})


def open_kinds(space: Space) -> set[str]:
    return {k.kind for a in space.architectures for k in a.knobs if len(k.domain) > 1}


def test_every_knob_is_in_a_dimension(workbench):
    space = workbench.space
    for knob in space.architectures[0].knobs:
        assert any(each.holds(knob) for each in DIMENSIONS), knob.name
    assert [d.name for d in dimensions_of(space)] == [
        "bits",
        "activations",
        "rank",
        "widths",
        "drops",
    ]


@pytest.mark.parametrize("dimension", DIMENSIONS, ids=lambda d: d.name)
def test_one_dimension_alone_leaves_all_else_as_it_harms_least(workbench, dimension):
    space = workbench.space
    part = restricted(space, [dimension])
    assert open_kinds(part) <= open_kinds(space)
    least = space.decode({})
    for seed in range(5):
        candidate = drawn(part, seed)
        assert space.contains(candidate)
        closed = [
            k
            for k in space.architectures[0].knobs
            if not dimension.holds(k) and k.kind != "method"
        ]
        for knob in closed:
            for target in knob.targets:
                if knob.kind != "weight_bits" or dimension.name != "activations":
                    assert knob.read(candidate, target) == knob.read(least, target)


def test_behind_a_candidate_all_that_is_closed_stands_as_it_does(workbench):
    space = workbench.space
    pruning = [d for d in dimensions_of(space) if d.is_pruning]
    others = [d for d in dimensions_of(space) if not d.is_pruning]
    for seed in range(5):
        pruned = drawn(restricted(space, pruning), seed)
        behind = restricted(space, others, pruned)
        assert open_kinds(behind) <= {"weight_bits", "segment", "method"}
        assert behind.decode({}) == pruned
        for again in range(3):
            quantised = drawn(behind, again)
            assert (quantised.widths, quantised.dropped) == (pruned.widths, pruned.dropped)
            assert space.contains(quantised)
            gone = {n for n, _ in pruned.layers} - {n for n, _ in quantised.layers}
            for name, choice in quantised.layers:
                if name not in gone:
                    assert choice.rank == pruned.layer(name).rank
