"""Uniform settings of a space: all layers at one width, which is what anybody would try first."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest

from paredown.spaces.candidates.candidate import Candidate, SegmentChoice, Setting
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.canonical_form import canonical
from paredown.spaces.knobs.segment_precision import SegmentKnob
from paredown.spaces.knobs.space import Space
from paredown.spaces.knobs.weight_bits import WeightBitsKnob


def uniform_settings(space: Space) -> tuple[Candidate, ...]:
    """All layers at one width, the narrowest first, beside each uniform setting of the segments in turn.

    A layer that does not offer the width has the next wider one, a segment that does not offer a choice
    its least harmful; all other knobs stand at their least harmful values.
    """
    runs = [
        list(_widths(architecture, choice))
        for architecture in space.architectures
        for choice in _segment_choices(architecture)
    ]
    turns = zip_longest(*runs)
    return tuple({c.key: c for turn in turns for c in turn if c is not None}.values())


def _segment_choices(architecture: Architecture) -> list[SegmentChoice | None]:
    """Every choice that some segment offers; None leaves them alone where there is none.

    A float32 container beside float activations saves nothing.
    """
    domains = (knob.domain for knob in architecture.knobs_of(SegmentKnob))
    choices = dict.fromkeys(choice for domain in domains for choice in domain)
    return [c for c in choices if (c.activation_bits, c.container) != (32, "fast")] or [None]


def _widths(architecture: Architecture, choice: SegmentChoice | None) -> Iterator[Candidate]:
    offered = {bits for k in architecture.knobs_of(WeightBitsKnob) for bits in k.domain}
    for bits in sorted(offered):
        setting = Setting(architecture=architecture.name)
        for knob in architecture.knobs:
            value = knob.domain[0]
            if isinstance(knob, WeightBitsKnob):
                wider = [width for width in knob.domain if width >= bits]
                value = min(wider, default=max(knob.domain))
            elif choice in knob.domain:
                value = choice
            knob.apply(setting, value)
        yield canonical(architecture, setting.candidate())
