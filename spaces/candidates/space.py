"""The space: every knob the rules leave open, each with a finite ordered domain.

Flat for the sampler (one integer per knob) but canonical for everyone else: decoding sets an inert
knob to its identity, so equal models have equal keys.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from paredown.spaces.candidates.candidate import Candidate, LayerChoice, SegmentChoice
from paredown.spaces.candidates.canonical_form import (
    canonical,
    canonical_choice,
    canonical_segment,
    held_by,
    layers_of,
    outermost,
)
from paredown.spaces.candidates.knobs import Architecture, Knob, KnobKind
from paredown.spaces.structure.model_map import LeftOut, ModelMap

ARCHITECTURE = "architecture"


@dataclass(frozen=True, kw_only=True)
class Space:
    """All architectures with their knobs.

    Knobs with a single value are kept: they are constants, applied when decoding and never sampled.
    `left_out` lists what the search will not touch and why.
    """

    architectures: tuple[Architecture, ...]
    left_out: tuple[LeftOut, ...] = ()

    @functools.cached_property
    def by_name(self) -> Mapping[str, Architecture]:
        """The architectures by name."""
        return {a.name: a for a in self.architectures}

    def model_map(self, candidate: Candidate) -> ModelMap:
        """The model map of the candidate's architecture."""
        return self.by_name[candidate.architecture].model_map

    @property
    def log10_size(self) -> float:
        """Decimal logarithm of the number of settings, inert ones counted."""
        sizes = (math.fsum(math.log10(len(k.domain)) for k in a.knobs) for a in self.architectures)
        return math.log10(math.fsum(10 ** min(size, 300.0) for size in sizes))

    def dimensions(self) -> Mapping[str, int]:
        """Sampled parameters and how many values each has, in a fixed order."""
        found: dict[str, int] = {}
        if len(self.architectures) > 1:
            found[ARCHITECTURE] = len(self.architectures)
        for architecture in self.architectures:
            for knob in architecture.knobs:
                if len(knob.domain) > 1:
                    found[self.parameter(architecture, knob)] = len(knob.domain)
        return found

    def decode(self, parameters: Mapping[str, int]) -> Candidate:
        """The canonical candidate of a parameter setting; a missing parameter stands at 0."""
        architecture = self.architectures[parameters.get(ARCHITECTURE, 0)]
        values = {
            knob.name: knob.domain[parameters.get(self.parameter(architecture, knob), 0)]
            for knob in architecture.knobs
        }
        return canonical(architecture, _candidate(architecture, values))

    def encode(self, candidate: Candidate) -> dict[str, int]:
        """Parameters that decode to `candidate`; inert knobs and other architectures stand at 0.

        Raises:
            ValueError: The candidate takes a value that is not in its knob's domain.
        """
        architecture = self.by_name[candidate.architecture]
        found = dict.fromkeys(self.dimensions(), 0)
        if ARCHITECTURE in found:
            found[ARCHITECTURE] = self.architectures.index(architecture)
        gone = layers_of(architecture.model_map, candidate.dropped)
        for knob in architecture.knobs:
            name = self.parameter(architecture, knob)
            if name in found:
                found[name] = _index(architecture, knob, candidate, gone)
        return found

    def parameter(self, architecture: Architecture, knob: Knob) -> str:
        """The name of a knob's parameter in `dimensions`."""
        return f"{architecture.name}/{knob.name}" if architecture.name else knob.name

    def contains(self, candidate: Candidate) -> bool:
        """Whether a parameter setting decodes to `candidate`."""
        try:
            return self.decode(self.encode(candidate)) == candidate
        except (ValueError, KeyError):
            return False


def _candidate(architecture: Architecture, values: Mapping[str, Any]) -> Candidate:
    layers: dict[str, dict[str, Any]] = {}
    segments: dict[str, SegmentChoice] = {}
    widths: dict[str, int] = {}
    dropped: list[str] = []
    for knob in architecture.knobs:
        value = values[knob.name]
        for target in knob.targets:
            if knob.kind == "segment":
                segments[target] = value
            elif knob.kind == "width":
                widths[target] = value
            elif knob.kind == "drop":
                dropped.extend([target] if value else [])
            else:
                layers.setdefault(target, {}).update(knob.settings(value))
    return Candidate.of(
        architecture=architecture.name,
        layers={name: LayerChoice(**fields) for name, fields in layers.items()},
        segments=segments,
        widths=widths,
        dropped=tuple(dropped),
    )


def _index(
    architecture: Architecture, knob: Knob, candidate: Candidate, gone: frozenset[str]
) -> int:
    """Position of a value that canonical form shows as the candidate's; 0 where it hides the knob.

    Args:
        gone: The layers of dropped blocks.
    """
    targets = _live_targets(architecture.model_map, knob, candidate, gone)
    values = [_value(architecture.model_map, knob, candidate, target) for target in targets]
    if not targets:
        return 0
    if len(set(values)) == 1 and values[0] in knob.domain:
        return knob.domain.index(values[0])
    # Hidden, or tied to targets of which some hide it: sought by what each value would look like.
    for index, value in enumerate(knob.domain):
        shown = [_shown(architecture, knob, value, candidate, gone, t) for t in targets]
        if shown == values:
            return index
    raise ValueError(f"{knob.name}: {values[0]!r} is not one of {knob.domain!r}")


def _live_targets(
    model_map: ModelMap, knob: Knob, candidate: Candidate, gone: frozenset[str]
) -> list[str]:
    """Targets that are still there beside the dropped blocks."""
    if knob.kind == "drop":
        kept = [outermost(model_map, {*candidate.dropped, name}) for name in knob.targets]
        return [name for name, each in zip(knob.targets, kept, strict=True) if name in each]
    if knob.kind == "width":
        layers = {g.name: set(g.producers) for g in model_map.groups}
    elif knob.kind == "segment":
        layers = {s.name: set(s.layers) for s in model_map.segments}
    else:
        layers = {name: {name} for name in knob.targets}
    return [name for name in knob.targets if not layers[name] or not layers[name] <= gone]


def _shown(
    architecture: Architecture,
    knob: Knob,
    value: Any,
    candidate: Candidate,
    gone: frozenset[str],
    target: str,
) -> Any:
    """What canonical form makes of `value` for one target, all else as in `candidate`."""
    model_map = architecture.model_map
    if knob.kind == "segment":
        inside = next(s.layers for s in model_map.segments if s.name == target)
        present = [model_map.layer_by_name[name] for name in inside if name not in gone]
        return canonical_segment(value, held_by(model_map, present, candidate))
    if knob.kind in ("width", "drop"):
        return value
    choice = replace(candidate.layer(target), **knob.settings(value))
    layer = model_map.layer_by_name[target]
    found = canonical_choice(architecture, layer, choice, candidate, dict(candidate.widths))
    return _value(model_map, knob, Candidate.of(layers={target: found}), target)


def _value(model_map: ModelMap, knob: Knob, candidate: Candidate, target: str) -> Any:
    if knob.kind == "segment":
        return candidate.segment(target)
    if knob.kind == "width":
        channels = next(g.channels for g in model_map.groups if g.name == target)
        return dict(candidate.widths).get(target, channels)
    if knob.kind == "drop":
        return target in candidate.dropped
    return knob.value_of(candidate.layer(target))


__all__ = ["ARCHITECTURE", "Architecture", "Knob", "KnobKind", "Space", "canonical"]
