"""Dropped blocks: what they take with them, and which lie inside others."""

from __future__ import annotations

from dataclasses import replace

from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.knobs.block_drop import DropKnob, layers_of, outermost


def test_a_segment_inside_a_block_goes_with_it(mapped) -> None:
    model_map = mapped("resnet_projection")
    block = model_map.blocks[0]
    knob = DropKnob(name="d", targets=(block.name,), domain=(False, True))
    for segment in model_map.segments:
        inside = bool(segment.layers) and set(segment.layers) <= set(block.layers)
        assert knob.removes(model_map, segment) == inside
        assert knob.touches(model_map, segment) == bool({*segment.layers} & {*block.layers})
    assert layers_of(model_map, (block.name,)) == set(block.layers)


def test_a_block_inside_a_dropped_one_is_hidden(mapped) -> None:
    model_map = mapped("resnet_projection")
    first = model_map.blocks[0]
    outer = replace(first, name="outer", layers=tuple(model_map.layer_by_name))
    nested = replace(model_map, blocks=(*model_map.blocks, outer))
    knob = DropKnob(name="d", targets=(first.name,), domain=(False, True))
    dropped = Candidate.of(dropped=("outer",))
    assert outermost(nested, {"outer", first.name}) == ("outer",)
    assert not knob.is_live(nested, dropped, frozenset(), first.name)
    assert knob.is_live(nested, Candidate(), frozenset(), first.name)


def test_no_search_begins_with_a_drop() -> None:
    assert not DropKnob(name="d", targets=("b",), domain=(False, True)).is_predictable
