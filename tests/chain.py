"""Shared by tests of the whole chain: databases of zoo networks and random candidates."""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import Tensor

from paredown.compressors.layers.database import Database
from paredown.compressors.statistics.layer_statistics import collect_statistics
from paredown.compressors.statistics.ranges import collect_ranges
from paredown.spaces.candidates.candidate import Candidate, LayerChoice, SegmentChoice
from paredown.spaces.candidates.ranks import Decomposition, Rank
from paredown.spaces.candidates.zeros import Zeros
from paredown.spaces.capture.capturing import Captured
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.canonical_form import canonical
from paredown.spaces.structure.model_map import Block, ChannelGroup, ModelMap

BITS = (2, 3, 4, 5, 6, 8, 32)
SPARSITIES = (
    (0.0, "dense"),
    (0.3, "element"),
    (0.7, "element"),
    (0.95, "element"),
    (0.5, "2:4"),
    (0.6, "block"),
)
_ONE_BIT = 0.15
RANKS = (1.0, 0.5, 0.2)
GROUP_SIZES = (0, 32, 64, 128)
FORMS: tuple[Decomposition, ...] = ("channel", "spatial", "tucker")


def squared(outputs: tuple[Tensor, ...], targets: Any) -> Tensor:
    """Squares summed over all outputs; targets are zero."""
    return sum((output.square().sum() for output in outputs), torch.zeros(()))


def make_database(captured: Captured, model_map: ModelMap, inputs: list[Tensor]) -> Database:
    """A database calibrated on one batch."""
    graph, tensors = captured.graph, captured.tensors
    statistics = collect_statistics(
        graph, tensors, model_map.layers, [inputs], loss=squared, targets=[None]
    )
    ranges = collect_ranges(graph, tensors, [inputs])
    return Database(model_map, tensors, statistics, ranges)


def random_candidate(model_map: ModelMap, seed: int, activation_bits: int | None) -> Candidate:
    """A canonical candidate, random in every knob; `activation_bits` None draws 8 or 32 too."""
    draw, sizes = random.Random(seed), random.Random(f"group sizes of {seed}")
    second = random.Random(f"second ranks of {seed}")
    ranges, ones = random.Random(f"ranges of {seed}"), random.Random(f"1 bit of {seed}")
    layers = {}
    for layer in model_map.layers:
        sparsity, pattern = draw.choice(SPARSITIES)
        layers[layer.name] = LayerChoice(
            weight_bits=(draw.choice(BITS), 1)[ones.random() < _ONE_BIT],
            zeros=Zeros(sparsity, pattern),
            rank=Rank(draw.choice(RANKS), draw.choice(FORMS), second.choice((None, 0.3, 1.0))),
            method=draw.choice(("rtn", "laq", "gptq")),
            group_size=sizes.choice(GROUP_SIZES),
        )
    segments = {
        segment.name: SegmentChoice(
            activation_bits=activation_bits or draw.choice((8, 32)),
            container=draw.choice(("compact", "fast")),
            ranges=ranges.choice(("static", "dynamic")),
        )
        for segment in model_map.segments
    }
    candidate = Candidate.of(
        layers=layers,
        segments=segments,
        widths={g.name: _width(draw, g) for g in model_map.groups if draw.random() < 0.6},
        dropped=tuple(b.name for b in model_map.blocks if _dropped(draw, b)),
    )
    return canonical(Architecture(name="", model_map=model_map, knobs=()), candidate)


def _width(draw: random.Random, group: ChannelGroup) -> int:
    return draw.randint(max(1, group.channels // 3), group.channels)


def _dropped(draw: random.Random, block: Block) -> bool:
    return draw.random() < 0.4
