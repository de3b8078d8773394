"""The knobs of one network: each a decision with a finite ordered domain."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from paredown.spaces.candidates.candidate import Decomposition, LayerChoice
from paredown.spaces.structure.model_map import ModelMap

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

RankValue = tuple[float, Decomposition, float | None]
"""Share of the rank, form, and the share of the second rank where it differs."""

_TOGETHER: Mapping[KnobKind, tuple[str, ...]] = {
    "sparsity": ("sparsity", "pattern"),
    "rank_fraction": ("rank_fraction", "decomposition", "written_fraction"),
}
"""Knobs that set several fields of a layer's choice, of which the first alone means something."""


@dataclass(frozen=True, kw_only=True)
class Knob:
    """One decision: a value of `domain` for all of `targets` (several when tied).

    `domain` runs from the value that harms accuracy least to the one that compresses most. Values are
    bits; (sparsity, pattern); a `RankValue`; methods; group sizes; SegmentChoice; channels kept;
    or False/True for dropping a block.
    """

    name: str
    kind: KnobKind
    targets: tuple[str, ...]
    domain: tuple[Any, ...]

    def settings(self, value: Any) -> dict[str, Any]:
        """The fields of a layer's choice, of a knob of layers at `value`."""
        if self.kind in _TOGETHER:
            return dict(zip(_TOGETHER[self.kind], value, strict=True))
        return {self.kind: value}

    def value_of(self, choice: LayerChoice) -> Any:
        """Where a knob of layers stands in `choice`."""
        if self.kind in _TOGETHER:
            return tuple(getattr(choice, name) for name in _TOGETHER[self.kind])
        return getattr(choice, self.kind)


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One network of the search: its map, its open knobs, and what the rules fix without a choice."""

    name: str
    model_map: ModelMap
    knobs: tuple[Knob, ...]

    @functools.cached_property
    def ranks(self) -> Mapping[str, tuple[RankValue, ...]]:
        """By layer name, what its knob offers."""
        knobs = (knob for knob in self.knobs if knob.kind == "rank_fraction")
        return {target: knob.domain for knob in knobs for target in knob.targets}
