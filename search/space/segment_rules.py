"""The ways that rules let a segment compute, least harmful first, and why others are left out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from fnmatch import fnmatchcase
from typing import Any

from paredown.search.config.schema_space import Rule, SegmentRule
from paredown.search.space.tied_knobs import SpaceError
from paredown.spaces.candidates.candidate import Ranges, SegmentChoice
from paredown.spaces.candidates.capabilities import Capabilities
from paredown.spaces.structure.model_map import ModelMap, Segment

LeaveOut = Callable[[str, str], None]
"""Takes what is left out, and why."""


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
        with_codes: Layers that may have integer weights; of dynamic ranges no others know.

    Raises:
        SpaceError: Something is asked for, and the device offers none of it.
    """
    asked: dict[str, tuple[Any, ...]] = {}
    for _, rule in matching(segment, rules):
        given = {key: getattr(rule, key) for key in ("activation_bits", "container", "ranges")}
        asked |= {key: value for key, value in given.items() if value}

    def offered(key: str, values: Sequence[Any], otherwise: Any) -> list[Any]:
        return _offered(segment, key, asked.get(key, ()), values, can.device, leave_out) or [
            otherwise
        ]

    widths = offered("activation_bits", can.activation_bits, 32)
    containers = sorted(offered("container", can.containers, "compact"))
    ranges = offered("ranges", can.ranges, "static")
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


def segment_tie(segment: Segment, rules: Sequence[Rule]) -> int | None:
    """Position of the rule that ties the segment to others; None where it decides alone."""
    tie: int | None = None
    for index, rule in matching(segment, rules):
        tie = index if rule.tie else (None if rule.tie is False else tie)
    return tie


def matching(segment: Segment, rules: Sequence[Rule]) -> list[tuple[int, SegmentRule]]:
    """The rules that name the segment, with their positions."""
    return [
        (index, rule)
        for index, rule in enumerate(rules)
        if isinstance(rule, SegmentRule)
        and any(fnmatchcase(segment.name, glob) for glob in rule.segments)
    ]


def _reached(segment: Segment, model_map: ModelMap, rules: Sequence[Rule]) -> list[str]:
    """Layers of all segments that share the segment's knob."""
    tie = segment_tie(segment, rules)
    if tie is None:
        return list(segment.layers)
    shared = [each for each in model_map.segments if segment_tie(each, rules) == tie]
    return [name for each in shared for name in each.layers]


def _offered(
    segment: Segment,
    key: str,
    asked: Sequence[Any],
    can: Sequence[Any],
    device: str,
    leave_out: LeaveOut,
) -> list[Any]:
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
