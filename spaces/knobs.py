"""The knobs of one network: each a decision with a finite ordered domain."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from paredown.spaces.model_map import ModelMap

KnobKind = Literal[
    "weight_bits",
    "sparsity",
    "rank_fraction",
    "method",
    "group_size",
    "segment",
    "width",
    "drop",
]


@dataclass(frozen=True, kw_only=True)
class Knob:
    """One decision: a value of `domain` for all of `targets` (several when tied).

    `domain` runs from the value that harms accuracy least to the one that compresses most. Values are
    bits; (sparsity, pattern); rank fractions; methods; group sizes; SegmentChoice; channels kept; or
    False/True for dropping a block.
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

    @functools.cached_property
    def rank_fractions(self) -> Mapping[str, tuple[float, ...]]:
        """By layer name, what its knob offers."""
        knobs = (knob for knob in self.knobs if knob.kind == "rank_fraction")
        return {target: knob.domain for knob in knobs for target in knob.targets}
