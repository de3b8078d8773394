"""One network of the search with its knobs."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from paredown.spaces.candidates.ranks import Rank
from paredown.spaces.knobs.knob import Knob
from paredown.spaces.knobs.low_rank import RankKnob
from paredown.spaces.structure.model_map import ModelMap

KnobT = TypeVar("KnobT", bound=Knob)


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One network of the search: its map, its open knobs, and what the rules fix without a choice."""

    name: str
    model_map: ModelMap
    knobs: tuple[Knob, ...]

    def knobs_of(self, kind: type[KnobT]) -> tuple[KnobT, ...]:
        """The knobs of one kind, in order."""
        return tuple(knob for knob in self.knobs if isinstance(knob, kind))

    @functools.cached_property
    def ranks(self) -> Mapping[str, tuple[Rank, ...]]:
        """By layer name, what its knob offers."""
        return {target: k.domain for k in self.knobs_of(RankKnob) for target in k.targets}
