"""Whether residual blocks are skipped, and what goes with them."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Set as AbstractSet

from paredown.spaces.candidates.candidate import Candidate, Setting
from paredown.spaces.knobs.knob import Knob
from paredown.spaces.structure.model_map import ModelMap, Segment


class DropKnob(Knob[bool]):
    """Whether blocks are skipped.

    The damage predicted for it is right in order of size at best, so no search begins with a drop.
    """

    kind = "drop"
    title = "block"
    part = "blocks"
    is_predictable = False

    def apply(self, setting: Setting, value: bool) -> None:
        """Drops every target, or keeps it."""
        for target in self.targets:
            (setting.dropped.add if value else setting.dropped.discard)(target)

    def read(self, candidate: Candidate, target: str) -> bool:
        """Whether one block is dropped."""
        return target in candidate.dropped

    def layers_of(self, model_map: ModelMap, target: str) -> frozenset[str]:
        """The layers of the block."""
        return layers_of(model_map, (target,))

    def tensors_of(self, model_map: ModelMap) -> frozenset[str]:
        """Weights and biases of the blocks' layers."""
        gone = (model_map.layer_by_name[name] for name in layers_of(model_map, self.targets))
        return frozenset(name for x in gone for name in (x.weight, x.bias) if name is not None)

    def is_live(
        self, model_map: ModelMap, candidate: Candidate, gone: AbstractSet[str], target: str
    ) -> bool:
        """Whether the block lies in no other that is dropped."""
        return target in outermost(model_map, {*candidate.dropped, target})

    def removes(self, model_map: ModelMap, segment: Segment) -> bool:
        """Whether a drop takes all layers of the segment, which has some."""
        inside = frozenset(segment.layers)
        held = (self.layers_of(model_map, target) for target in self.targets)
        return bool(inside) and any(inside <= layers for layers in held)

    def text(self, value: bool) -> str:
        """Drop, or keep."""
        return "drop" if value else "keep"


def outermost(model_map: ModelMap, dropped: Collection[str]) -> tuple[str, ...]:
    """The dropped blocks that lie in no other dropped one.

    Of two blocks over the same layers the one that ends later holds the other.
    """
    within: set[str] = set()
    ends = [block for block in model_map.blocks if block.name in dropped]
    for index, block in enumerate(ends):
        if any(set(block.layers) <= set(later.layers) for later in ends[index + 1 :]):
            within.add(block.name)
    return tuple(name for name in dropped if name not in within)


def layers_of(model_map: ModelMap, dropped: Collection[str]) -> frozenset[str]:
    """The layers that dropped blocks take with them."""
    blocks = (block for block in model_map.blocks if block.name in dropped)
    return frozenset(name for block in blocks for name in block.layers)
