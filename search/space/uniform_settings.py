"""Uniform settings of a space: every layer at one width of weights, every segment at one precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest

from paredown.spaces.candidates.candidate import Candidate, SegmentChoice, Setting
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.canonical_form import canonical
from paredown.spaces.knobs.segment_precision import SegmentKnob
from paredown.spaces.knobs.weight_bits import WeightBitsKnob


def uniform_settings(architectures: Sequence[Architecture]) -> list[Candidate]:
    """All layers at one width, the narrowest first, in turn at every setting of the segments.

    A layer that does not offer the width has the next wider one, all else stands at its least harmful.
    They are what anybody would try first.
    """
    runs = [
        _run(architecture, segments)
        for architecture in architectures
        for segments in _segment_settings(architecture)
    ]
    turns = zip_longest(*runs)
    return list({c.key: c for turn in turns for c in turn if c is not None}.values())


def _run(architecture: Architecture, segments: Mapping[str, SegmentChoice]) -> list[Candidate]:
    knobs = architecture.knobs_of(WeightBitsKnob)
    found = []
    for bits in sorted({width for knob in knobs for width in knob.domain}):
        setting = Setting(architecture=architecture.name)
        for knob in architecture.knobs:
            knob.apply(setting, knob.domain[0])
        for knob in knobs:
            wider = [width for width in knob.domain if width >= bits]
            knob.apply(setting, min(wider, default=max(knob.domain)))
        setting.segments.update(segments)
        found.append(canonical(architecture, setting.candidate()))
    return found


def _segment_settings(architecture: Architecture) -> list[dict[str, SegmentChoice]]:
    """Every setting of segments, by name, in all that offer it; others stand at their least harmful."""
    knobs = architecture.knobs_of(SegmentKnob)
    domains = {target: knob.domain for knob in knobs for target in knob.targets}
    found: list[dict[str, SegmentChoice]] = []
    for choice in dict.fromkeys(c for domain in domains.values() for c in domain):
        setting = {t: choice if choice in d else d[0] for t, d in domains.items()}
        # A float32 container beside float activations saves nothing.
        saves_nothing = (choice.activation_bits, choice.container) == (32, "fast")
        if setting not in found and not saves_nothing:
            found.append(setting)
    return found or [{t: domain[0] for t, domain in domains.items()}]
