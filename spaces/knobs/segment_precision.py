"""How the operators of a segment compute."""

from __future__ import annotations

from paredown.spaces.candidates.candidate import Candidate, SegmentChoice, Setting
from paredown.spaces.knobs.knob import Knob
from paredown.spaces.structure.model_map import ModelMap, Segment


class SegmentKnob(Knob[SegmentChoice]):
    """The activations of segments, and the container of their weights."""

    kind = "segment"
    title = "activations"
    part = "segments"

    def apply(self, setting: Setting, value: SegmentChoice) -> None:
        """Sets the choice of every target."""
        setting.segments.update(dict.fromkeys(self.targets, value))

    def read(self, candidate: Candidate, target: str) -> SegmentChoice:
        """The choice of one segment."""
        return candidate.segment(target)

    def layers_of(self, model_map: ModelMap, target: str) -> frozenset[str]:
        """The layers inside the segment; it may have none."""
        inside = (segment.layers for segment in model_map.segments if segment.name == target)
        return frozenset(next(inside))

    def touches(self, model_map: ModelMap, segment: Segment) -> bool:
        """Whether the segment is a target."""
        return segment.name in self.targets

    def text(self, value: SegmentChoice) -> str:
        """Bits, ranges where they are dynamic, and container."""
        return value.text
