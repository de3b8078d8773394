"""How segments compute, as values of a knob."""

from __future__ import annotations

from dataclasses import replace

from paredown.spaces.candidates.candidate import Candidate, SegmentChoice
from paredown.spaces.knobs.segment_precision import SegmentKnob
from paredown.spaces.structure.model_map import Segment


def test_only_its_own_segments_are_touched(mapped) -> None:
    model_map = mapped("resnet_projection")
    first, *others = model_map.segments
    knob = SegmentKnob(name="s", targets=(first.name,), domain=(SegmentChoice(),))
    assert knob.touches(model_map, first)
    assert not any(knob.touches(model_map, other) for other in others)
    assert knob.layers_of(model_map, first.name) == set(first.layers)


def test_a_segment_without_layers_is_always_live(mapped) -> None:
    model_map = mapped("resnet_projection")
    empty = Segment(name="empty", nodes=(), layers=())
    wider = replace(model_map, segments=(*model_map.segments, empty))
    knob = SegmentKnob(name="s", targets=("empty",), domain=(SegmentChoice(),))
    gone = frozenset(wider.layer_by_name)
    assert knob.is_live(wider, Candidate(), gone, "empty")
