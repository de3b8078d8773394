"""Channels through products of values: attention heads are a dimension that all operands share."""

from __future__ import annotations

from collections.abc import Sequence

from paredown.spaces.channels.giving import meet_fixed
from paredown.spaces.channels.parts import Part, Parts
from paredown.spaces.channels.ties import Layout, Ties
from paredown.spaces.graph.graph import Node, Ref


def product(ties: Ties, node: Node) -> Layout | None:
    """A product of matrices: channels are rows, columns, what is summed over, or many products."""
    names = (node.ref(0), node.ref(1))
    if all(name not in ties.layouts for name in names):
        return None
    if min(len(ties.shape_of(name)) for name in names) < 2:
        return ties.block(node, "multiplies a vector")
    if (heads := _heads(ties, node, names)) is not None:
        return heads
    rank = len(node.shape)
    match [_from_end(ties, name) for name in names]:
        case [-1, -2]:
            first, second = (ties.layouts[name].parts for name in names)
            ties.unite(first, second, f"{node.op} ({node.name})")
            return None
        case [-2, None]:
            return Layout(rank - 2, ties.layouts[names[0]].parts)
        case [None, -1]:
            return Layout(rank - 1, ties.layouts[names[1]].parts)
    return ties.block(node, "multiplies along the channels")


def attention(ties: Ties, node: Node) -> Layout | None:
    """Scaled dot product attention: heads, or else the channels of the values alone."""
    names = tuple(arg.name for arg in node.args[:4] if isinstance(arg, Ref))
    if all(name not in ties.layouts for name in names):
        return None
    if (heads := _heads(ties, node, names)) is not None:
        return heads
    if [_from_end(ties, name) for name in names[:3]] == [None, None, -1]:
        return Layout(len(node.shape) - 1, ties.layouts[names[2]].parts)
    return ties.block(node, "attends along the channels")


def _heads(ties: Ties, node: Node, names: Sequence[str]) -> Layout | None:
    """The layout where channels number the products; what has others is kept whole beside them."""
    places = [place for name in names if (place := _from_end(ties, name) or 0) < -2]
    if not places:
        return None
    place = places[0]
    dim = len(node.shape) + place
    parts = None
    for name in names:
        if _from_end(ties, name) == place:
            own = _shared(ties, name, node.shape[dim])
            parts = own if parts is None else ties.unite(parts, own, f"{node.op} ({node.name})")
    assert parts is not None
    for name in names:
        if _from_end(ties, name) != place:
            ties.freeze_value(name, f"meets channels of another dimension at {node.name}")
            meet_fixed(ties, node, Layout(dim, parts), name)
    return Layout(dim, parts)


def _shared(ties: Ties, name: str, heads: int) -> Parts:
    """The parts of heads, of which groups of neighbours may share keys and values."""
    layout = ties.layouts[name]
    times = heads // layout.size
    return tuple(Part(part.group, part.channels, part.repeat * times) for part in layout.parts)


def _from_end(ties: Ties, name: str) -> int | None:
    """The dimension of a value's channels, counted from the end: -1 is the last."""
    layout = ties.layouts.get(name)
    return None if layout is None else layout.dim - len(ties.shape_of(name))
