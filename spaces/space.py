"""The space: every knob the rules leave open, each with a finite ordered domain.

Flat for the sampler (one integer per knob) but canonical for everyone else: decoding sets an inert
knob to its identity, so equal models have equal keys.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from paredown.spaces.candidate import (
    IDENTITY_CHOICE,
    Candidate,
    LayerChoice,
    SegmentChoice,
)
from paredown.spaces.draft import factor_rank
from paredown.spaces.model_map import Layer, LeftOut, ModelMap
from paredown.spaces.slicing import narrowed_size

KnobKind = Literal[
    "weight_bits", "sparsity", "rank_fraction", "method", "segment", "width", "drop"
]
ARCHITECTURE = "architecture"
_ROUNDED_BITS = 8
"""From here on every method is rounding: compensation follows the calibration sample and gains nothing
(ResNet-20 with 8-bit activations, 5,000 test images: GPTQ -0.30, rounding -0.02 points)."""


@dataclass(frozen=True, kw_only=True)
class Knob:
    """One decision: a value of `domain` for all of `targets` (several when tied).

    `domain` runs from the value that harms accuracy least to the one that compresses most. Values are
    bits; (sparsity, pattern); rank fractions; methods; SegmentChoice; channels kept; or False/True for
    dropping a block.
    """

    name: str
    kind: KnobKind
    targets: tuple[str, ...]
    domain: tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One network of the search: its map, its open knobs, and what the rules fix without a choice."""

    name: str
    model_map: ModelMap
    knobs: tuple[Knob, ...]


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
        return {a.name: a for a in self.architectures}

    def model_map(self, candidate: Candidate) -> ModelMap:
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
                    found[_parameter(architecture, knob)] = len(knob.domain)
        return found

    def decode(self, parameters: Mapping[str, int]) -> Candidate:
        """The canonical candidate of a parameter setting; a missing parameter stands at 0."""
        architecture = self.architectures[parameters.get(ARCHITECTURE, 0)]
        values = {
            knob.name: knob.domain[parameters.get(_parameter(architecture, knob), 0)]
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
        for knob in architecture.knobs:
            name = _parameter(architecture, knob)
            if name in found:
                found[name] = _index(architecture.model_map, knob, candidate)
        return found

    def contains(self, candidate: Candidate) -> bool:
        """Whether a parameter setting decodes to `candidate`."""
        try:
            return self.decode(self.encode(candidate)) == candidate
        except (ValueError, KeyError):
            return False


def canonical(architecture: Architecture, candidate: Candidate) -> Candidate:
    """The candidate with every inert setting at its identity: same model, same key."""
    model_map = architecture.model_map
    dropped_layers = {
        name
        for block in model_map.blocks
        if block.name in candidate.dropped
        for name in block.layers
    }
    widths = {
        group.name: dict(candidate.widths)[group.name]
        for group in model_map.groups
        if dict(candidate.widths).get(group.name, group.channels) < group.channels
        and not set(group.producers) <= dropped_layers
    }
    layers = {
        layer.name: _canonical_choice(model_map, layer, candidate, widths)
        for layer in model_map.layers
        if layer.name not in dropped_layers
    }
    segments = {}
    for segment in model_map.segments:
        present = [name for name in segment.layers if name not in dropped_layers]
        bits = [layers.get(name, IDENTITY_CHOICE).weight_bits for name in present]
        if present or not segment.layers:
            segments[segment.name] = _canonical_segment(candidate.segment(segment.name), bits)
    return Candidate.of(
        architecture=candidate.architecture,
        layers=layers,
        segments=segments,
        widths=widths,
        dropped=candidate.dropped,
    )


def _canonical_choice(
    model_map: ModelMap, layer: Layer, candidate: Candidate, widths: Mapping[str, int]
) -> LayerChoice:
    choice = candidate.layer(layer.name)
    shape = tuple(
        narrowed_size(parts, widths) if parts else size
        for size, parts in (
            (size, model_map.tensor_parts.get((layer.weight, axis)))
            for axis, size in enumerate(layer.weight_shape)
        )
    )
    if factor_rank(layer, shape, choice.rank_fraction) is None:
        choice = replace(choice, rank_fraction=1.0)
    if choice.weight_bits == 32 and _is_quantized_anyway(model_map, layer, candidate):
        choice = replace(choice, weight_bits=8)
    if choice.sparsity == 0 or choice.pattern == "dense":
        choice = replace(choice, sparsity=0.0, pattern="dense")
    if choice.method == "joint" and choice.pattern != "element":
        choice = replace(choice, method="descent")  # nothing to choose together: one solver
    if choice.weight_bits >= _ROUNDED_BITS and choice.sparsity == 0:
        choice = replace(choice, method="rtn")
    return choice


def _is_quantized_anyway(model_map: ModelMap, layer: Layer, candidate: Candidate) -> bool:
    """Whether float weights would not stay float: between 8-bit values ONNX Runtime rounds them.

    It does so with one scale for the whole tensor, so 8 bits with a scale per channel are better.
    """
    segment = candidate.segment(model_map.segment_of_node[layer.node])
    return segment.activation_bits == 8 and layer.kind != "embedding"


def _canonical_segment(choice: SegmentChoice, weight_bits: list[int]) -> SegmentChoice:
    """Where both containers store every weight alike, the name is "compact"."""
    differing = (2, 3, 4) if choice.activation_bits == 8 else (2, 3, 4, 5, 6, 8)
    if not any(bits in differing for bits in weight_bits):
        return replace(choice, container="compact")
    return choice


def _parameter(architecture: Architecture, knob: Knob) -> str:
    return f"{architecture.name}/{knob.name}" if architecture.name else knob.name


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
            elif knob.kind == "sparsity":
                layers.setdefault(target, {}).update(sparsity=value[0], pattern=value[1])
            else:
                layers.setdefault(target, {})[knob.kind] = value
    return Candidate.of(
        architecture=architecture.name,
        layers={name: LayerChoice(**fields) for name, fields in layers.items()},
        segments=segments,
        widths=widths,
        dropped=tuple(dropped),
    )


def _index(model_map: ModelMap, knob: Knob, candidate: Candidate) -> int:
    """Position of the candidate's value; 0 where canonical form hides the knob."""
    gone = {n for b in model_map.blocks if b.name in candidate.dropped for n in b.layers}
    targets = [target for target in knob.targets if target not in gone]
    if knob.kind == "width":
        producers = {g.name: set(g.producers) for g in model_map.groups}
        targets = [target for target in knob.targets if not producers[target] <= gone]
    if knob.kind == "segment":
        inside = {s.name: set(s.layers) for s in model_map.segments}
        targets = [t for t in targets if not inside[t] or not inside[t] <= gone]
    if not targets:
        return 0
    # Tied targets differ where the knob is inert for some: those may hide its value and go last.
    targets.sort(key=lambda target: _may_hide(model_map, knob, candidate, target))
    values = [_value(model_map, knob, candidate, target) for target in targets]
    for value in values:
        if value in knob.domain:
            return knob.domain.index(value)
    if knob.kind == "segment":
        # Canonical form names the container "compact" where it makes no difference.
        bits = [choice.activation_bits for choice in knob.domain]
        if values[0].activation_bits in bits:
            return bits.index(values[0].activation_bits)
    if knob.kind == "weight_bits" and 32 in knob.domain:
        return knob.domain.index(32)  # beside 8-bit activations float weights count as 8-bit ones
    if knob.kind in ("method", "rank_fraction"):
        return 0  # inert: a float layer has no method, a layer that cannot be split no rank
    raise ValueError(f"{knob.name}: {values[0]!r} is not one of {knob.domain!r}")


def _may_hide(model_map: ModelMap, knob: Knob, candidate: Candidate, target: str) -> bool:
    """Whether canonical form may have put the target's value there in place of the knob's."""
    value = _value(model_map, knob, candidate, target)
    if knob.kind == "weight_bits":
        layer = model_map.layer_by_name[target]
        return value == 8 and _is_quantized_anyway(model_map, layer, candidate)
    if knob.kind == "segment":
        return value.container == "compact"
    return knob.kind in ("method", "rank_fraction") and value in ("rtn", 1.0)


def _value(model_map: ModelMap, knob: Knob, candidate: Candidate, target: str) -> Any:
    if knob.kind == "segment":
        return candidate.segment(target)
    if knob.kind == "width":
        channels = next(g.channels for g in model_map.groups if g.name == target)
        return dict(candidate.widths).get(target, channels)
    if knob.kind == "drop":
        return target in candidate.dropped
    choice = candidate.layer(target)
    if knob.kind == "sparsity":
        return (choice.sparsity, choice.pattern)
    return getattr(choice, knob.kind)
