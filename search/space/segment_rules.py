"""The ways that rules let a segment compute, least harmful first, and why others are left out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TypeVar

from paredown.search.config.schema_space import Rule, SegmentRule
from paredown.search.space.scope import Scope, merged, tie_of
from paredown.search.space.tied_knobs import SpaceError
from paredown.spaces.candidates.candidate import IDENTITY_SEGMENT, Ranges, SegmentChoice
from paredown.spaces.candidates.capabilities import Capabilities
from paredown.spaces.knobs.knob import Knob
from paredown.spaces.knobs.segment_precision import SegmentKnob
from paredown.spaces.structure.model_map import ModelMap, Segment

T = TypeVar("T")

LeaveOut = Callable[[str, str], None]
"""Takes what is left out, and why."""


def segment_knobs(scope: Scope) -> Iterator[tuple[int | None, Knob]]:
    """One knob for each segment, with the rule that ties it."""
    for segment in scope.model_map.segments:
        name = f"{segment.name}:{SegmentKnob.kind}"
        domain = choices_of(segment, scope)
        knob = SegmentKnob(name=name, targets=(segment.name,), domain=domain)
        yield tie_of(scope.rules, segment.name, SegmentRule), knob


def all_choices(scope: Scope) -> tuple[SegmentChoice, ...]:
    """Every way in which some segment may compute."""
    found = (c for segment in scope.model_map.segments for c in choices_of(segment, scope))
    return tuple(dict.fromkeys(found))


def choices_of(segment: Segment, scope: Scope) -> tuple[SegmentChoice, ...]:
    """Every way in which one segment may compute, the least harmful first."""
    return segment_choices(
        segment, scope.model_map, scope.rules, scope.offered, scope.with_codes, scope.leave_out
    )


def segment_choices(
    segment: Segment,
    model_map: ModelMap,
    rules: Sequence[Rule],
    can: Capabilities,
    with_codes: Collection[str],
    leave_out: LeaveOut,
) -> tuple[SegmentChoice, ...]:
    """Values of the segment's knob: 32 bits, then 8 with dynamic ranges, then 8 with static ones.

    Args:
        with_codes: Layers that may have integer weights; no others read codes of dynamic ranges.

    Raises:
        SpaceError: Something is asked for, and the device offers none of it.
    """
    plain = IDENTITY_SEGMENT
    asked = merged(SegmentRule(segments=(segment.name,)), rules, segment.name)

    def _values(key: str, values: Sequence[T] | None, known: Sequence[T], otherwise: T) -> list[T]:
        kept = _offered(segment, key, values or (), known, can.device, leave_out)
        return kept or [otherwise]

    widths = _values(
        "activation_bits", asked.activation_bits, can.activation_bits, plain.activation_bits
    )
    containers = sorted(_values("container", asked.container, can.containers, plain.container))
    ranges = _values("ranges", asked.ranges, can.ranges, plain.ranges)
    reached = [model_map.layer_by_name[name] for name in _reached(segment, model_map, rules)]
    reads = any(layer.finds_range and layer.name in with_codes for layer in reached)
    if "dynamic" in ranges and not reads:
        ranges.remove("dynamic")
        reason = "linear layers of integer weights read them, and there are none"
        leave_out("dynamic ranges of some segments", reason)
    elif "dynamic" in ranges and 8 not in widths:
        leave_out(
            f"dynamic ranges of segment {segment.name}", "no rule gives it 8 activation bits"
        )
    modes: list[tuple[int, Ranges]] = [(32, "static")] if 32 in widths or not ranges else []
    modes += [(8, each) for each in sorted(ranges) if 8 in widths]
    return tuple(
        SegmentChoice(activation_bits=bits, container=container, ranges=each)
        for bits, each in modes
        for container in containers
    )


def _reached(segment: Segment, model_map: ModelMap, rules: Sequence[Rule]) -> list[str]:
    """Layers of all segments that share the segment's knob."""
    tie = tie_of(rules, segment.name, SegmentRule)
    if tie is None:
        return list(segment.layers)
    ties = ((each, tie_of(rules, each.name, SegmentRule)) for each in model_map.segments)
    shared = [each for each, its_tie in ties if its_tie == tie]
    return [name for each in shared for name in each.layers]


def _offered(
    segment: Segment,
    key: str,
    asked: Sequence[T],
    can: Sequence[T],
    device: str,
    leave_out: LeaveOut,
) -> list[T]:
    """What is asked of the segment and the device offers; the rest is listed."""
    kept = [value for value in asked if value in can]
    if asked and not kept:
        raise SpaceError(
            f"{key} of segment {segment.name!r} must hold one that {device} offers, "
            f"of {list(can)}, got {list(asked)}; add one to its rule"
        )
    for value in asked:
        if value not in kept:
            leave_out(f"{key} {value}", f"{device} does not offer it")
    return kept
