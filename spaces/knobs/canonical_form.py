"""Canonical form: what makes no difference stands at its identity, so equal models have equal keys."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from paredown.spaces.candidates.candidate import (
    GROUPED_METHODS,
    IDENTITY_CHOICE,
    Candidate,
    LayerChoice,
    SegmentChoice,
)
from paredown.spaces.candidates.drafting import finds_range, kept_count, stored_group_size
from paredown.spaces.candidates.factors import factor_chain, form_of
from paredown.spaces.candidates.ranks import WHOLE, Rank
from paredown.spaces.candidates.zeros import DENSE
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.block_drop import layers_of, outermost
from paredown.spaces.structure.model_map import Layer, ModelMap
from paredown.spaces.structure.slicing import narrowed_size

_ROUNDED_BITS = 8
"""From here on every method is rounding: compensation follows the calibration sample and gains nothing
(ResNet-20 with 8-bit activations, 5,000 test images: GPTQ -0.30, rounding -0.02 points)."""

_LEARNED_BITS = 4
"""Above, learned rounding and coordinate descent both leave the codes to GPTQ."""

_DIFFERING = {8: (1, 2, 3, 4), 32: (1, 2, 3, 4, 5, 6, 8)}
"""Widths of weights that the two containers store in different types, by the width of activations."""


def canonical(architecture: Architecture, candidate: Candidate) -> Candidate:
    """The candidate with every inert setting at its identity: same model, same key.

    Inert are blocks inside a dropped block, all that is set for layers, groups and segments of dropped
    blocks, and values that make no difference beside the others.
    """
    model_map = architecture.model_map
    dropped = outermost(model_map, candidate.dropped)
    gone = layers_of(model_map, dropped)
    widths = {
        group.name: dict(candidate.widths)[group.name]
        for group in model_map.groups
        if dict(candidate.widths).get(group.name, group.channels) < group.channels
        and not set(group.producers) <= gone
    }
    given = dict(candidate.layers)
    layers = {
        layer.name: canonical_choice(
            architecture, layer, given.get(layer.name, IDENTITY_CHOICE), candidate, widths
        )
        for layer in model_map.layers
        if layer.name not in gone
    }
    segments = {}
    settled = Candidate.of(layers=layers)
    for segment in model_map.segments:
        present = [model_map.layer_by_name[name] for name in segment.layers if name not in gone]
        if present or not segment.layers:
            held = held_by(model_map, present, settled)
            segments[segment.name] = canonical_segment(candidate.segment(segment.name), held)
    return Candidate.of(
        architecture=candidate.architecture,
        layers=layers,
        segments=segments,
        widths=widths,
        dropped=dropped,
    )


def canonical_choice(
    architecture: Architecture,
    layer: Layer,
    choice: LayerChoice,
    candidate: Candidate,
    widths: Mapping[str, int],
) -> LayerChoice:
    """`choice` of a layer that is there, with what makes no difference at its identity.

    Args:
        candidate: Says at which precision the layer's segment computes.
        widths: Channels kept by group; others are whole.
    """
    model_map = architecture.model_map
    shape = _shape(architecture, layer, widths)
    choice = replace(choice, rank=_canonical_rank(architecture, layer, choice.rank, shape))
    if choice.weight_bits == 32 and _is_quantized_anyway(model_map, layer, candidate):
        choice = replace(choice, weight_bits=8)
    if choice.weight_bits == 1 or _prunes_nothing(layer, choice, shape):
        choice = replace(choice, zeros=DENSE)  # 1-bit codes have no zero
    if choice.lacks_zero:
        choice = replace(choice, method="descent")  # its method would round to one
    if choice.method == "joint" and choice.zeros.pattern != "element":
        choice = replace(choice, method="descent")  # only single zeros are chosen with codes
    if choice.weight_bits == 32 and choice.method in ("adaround", "obq", "joint"):
        choice = replace(choice, method="descent")  # without codes all four are exact OBS
    if choice.weight_bits > _LEARNED_BITS and choice.method == "adaround":
        choice = replace(choice, method="descent")  # where both are GPTQ
    if choice.weight_bits >= _ROUNDED_BITS and choice.zeros.share == 0:
        choice = replace(choice, method="rtn")
    if choice.group_size:
        segment = candidate.segment(model_map.segment_of_node[layer.node])
        segment = segment.of_layer(finds_range(model_map, layer, candidate), choice.weight_bits)
        choice = _canonical_groups(layer, choice, segment, shape)
    return choice


def _canonical_groups(
    layer: Layer, choice: LayerChoice, segment: SegmentChoice, shape: tuple[int, ...]
) -> LayerChoice:
    """With groups only where some stored weight has them, and with a method that knows them."""
    chain = factor_chain(layer, shape, choice.rank)
    if not any(stored_group_size(layer, choice, segment, link.shape) for link in chain):
        return replace(choice, group_size=0)
    if choice.method not in GROUPED_METHODS:
        return replace(choice, method="descent")
    return choice


def _canonical_rank(
    architecture: Architecture, layer: Layer, rank: Rank, shape: tuple[int, ...]
) -> Rank:
    """The identity where the layer stays whole, else the first of its knob that gives the same chain.

    A second share is kept only where it makes another chain than the first share alone.
    """
    chain = factor_chain(layer, shape, rank)
    if len(chain) == 1:
        return WHOLE
    plain = Rank(rank.share, form_of(layer, rank.form))
    is_one_share = factor_chain(layer, shape, plain) == chain
    own = plain if is_one_share else replace(plain, written_share=rank.written_share)
    known = architecture.ranks.get(layer.name, ())
    return next((each for each in known if factor_chain(layer, shape, each) == chain), own)


def _shape(architecture: Architecture, layer: Layer, widths: Mapping[str, int]) -> tuple[int, ...]:
    """The weight's shape at these widths."""
    parts = architecture.model_map.tensor_parts
    return tuple(
        narrowed_size(parts[layer.weight, axis], widths) if (layer.weight, axis) in parts else size
        for axis, size in enumerate(layer.weight_shape)
    )


def _prunes_nothing(layer: Layer, choice: LayerChoice, shape: tuple[int, ...]) -> bool:
    """Whether every weight stays: too few columns for a block, or a share that rounds to none."""
    if choice.zeros.share == 0 or choice.zeros.pattern == "dense":
        return True
    chain = factor_chain(layer, shape, choice.rank)
    return all(kept_count(layer, choice, link.shape) == math.prod(link.shape) for link in chain)


def _is_quantized_anyway(model_map: ModelMap, layer: Layer, candidate: Candidate) -> bool:
    """Whether float weights would not stay float: between 8-bit values ONNX Runtime rounds them.

    It does so with one scale for the whole tensor, so 8 bits with a scale per channel are better.
    """
    segment = candidate.segment(model_map.segment_of_node[layer.node])
    if layer.name in model_map.partners:
        return False
    is_static = segment.activation_bits == 8 and segment.ranges == "static"
    return is_static and layer.kind != "embedding"


def held_by(
    model_map: ModelMap, layers: Sequence[Layer], candidate: Candidate
) -> list[tuple[bool, int]]:
    """Of layers of a segment, whether they can find ranges, and the bits of their weights."""
    return [
        (finds_range(model_map, layer, candidate), candidate.layer(layer.name).weight_bits)
        for layer in layers
    ]


def canonical_segment(choice: SegmentChoice, layers: Sequence[tuple[bool, int]]) -> SegmentChoice:
    """The choice of a segment whose layers find ranges or do not, and have these bits.

    Where no layer reads codes of dynamic ranges, all is float; where both containers store every
    weight alike, the name is "compact".
    """
    met = [(choice.of_layer(finds_range, bits), bits) for finds_range, bits in layers]
    if choice.ranges == "dynamic" and all(each.activation_bits == 32 for each, _ in met):
        choice = SegmentChoice(container=choice.container)
    if all(bits not in _DIFFERING[each.activation_bits] for each, bits in met):
        return replace(choice, container="compact")
    return choice
