"""Parts of a space: its dimensions, each of them alone, and the rest of it behind a candidate."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.architecture_choice import ArchitectureKnob
from paredown.spaces.knobs.block_drop import DropKnob
from paredown.spaces.knobs.knob import Knob
from paredown.spaces.knobs.low_rank import RankKnob
from paredown.spaces.knobs.method import MethodKnob
from paredown.spaces.knobs.scale_group import GroupSizeKnob
from paredown.spaces.knobs.segment_precision import SegmentKnob
from paredown.spaces.knobs.space import Space
from paredown.spaces.knobs.sparsity import SparsityKnob
from paredown.spaces.knobs.weight_bits import WeightBitsKnob
from paredown.spaces.knobs.width import WidthKnob


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One way to compress: its knobs, those that are of use with them alone, and whether it prunes.

    What prunes leaves less of the network to compute; the others store and compute it in fewer bits.
    """

    name: str
    knobs: tuple[type[Knob], ...]
    beside: tuple[type[Knob], ...] = ()
    is_pruning: bool

    def is_open(self, space: Space) -> bool:
        """Whether the space leaves a choice in it."""
        return any(
            isinstance(knob, self.knobs) and len(knob.domain) > 1
            for architecture in space.architectures
            for knob in space.parameters(architecture).values()
        )

    def holds(self, knob: Knob) -> bool:
        """Whether the knob stays open where this dimension does."""
        return isinstance(knob, (*self.knobs, *self.beside))


DIMENSIONS = (
    Dimension(
        name="bits", knobs=(WeightBitsKnob, GroupSizeKnob), beside=(MethodKnob,), is_pruning=False
    ),
    Dimension(name="activations", knobs=(SegmentKnob,), is_pruning=False),
    Dimension(name="sparsity", knobs=(SparsityKnob,), beside=(MethodKnob,), is_pruning=True),
    Dimension(name="rank", knobs=(RankKnob,), is_pruning=True),
    Dimension(name="widths", knobs=(WidthKnob,), is_pruning=True),
    Dimension(name="drops", knobs=(DropKnob,), is_pruning=True),
    Dimension(name="networks", knobs=(ArchitectureKnob,), is_pruning=True),
)
"""Every kind of knob is in one of them."""


def dimensions_of(space: Space) -> tuple[Dimension, ...]:
    """Those in which the space leaves a choice."""
    return tuple(each for each in DIMENSIONS if each.is_open(space))


def restricted(
    space: Space, dimensions: Collection[Dimension], behind: Candidate | None = None
) -> Space:
    """The space in which the knobs of these dimensions alone are open.

    Args:
        behind: Where the others stand; by default at their least harmful values, on the reference
            network.
    """
    positions = {} if behind is None else space.encode(behind)
    network = space.network.domain[0] if behind is None else behind.architecture
    is_open = any(each.holds(space.network) for each in dimensions)
    kept = [a for a in space.architectures if is_open or a.name == network]
    return replace(
        space, architectures=tuple(_settled(space, a, dimensions, positions) for a in kept)
    )


def _settled(
    space: Space,
    architecture: Architecture,
    dimensions: Collection[Dimension],
    positions: dict[str, int],
) -> Architecture:
    knobs = []
    for name, knob in space.parameters(architecture).items():
        if knob is space.network:
            continue
        if not any(each.holds(knob) for each in dimensions):
            knob = replace(knob, domain=(knob.domain[positions.get(name, 0)],))
        knobs.append(knob)
    return replace(architecture, knobs=tuple(knobs))
