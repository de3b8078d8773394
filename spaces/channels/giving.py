"""Gives channels to values that had none: copies, and what is computed of stored tensors.

Keys that all heads share are expanded to their number: with fewer heads there are fewer copies. A bias
per head is a stored tensor, masked and broadcast on its way: it is sliced along.
"""

from __future__ import annotations

from paredown.spaces.channels.moves import TURNS, expand, view
from paredown.spaces.channels.parts import Part
from paredown.spaces.channels.ties import Layout, Ties
from paredown.spaces.graph.graph import Node, Ref

_MOVES = {**TURNS, "expand": expand, "view": view}


def meet_fixed(ties: Ties, node: Node, layout: Layout, other: str) -> None:
    """An operand of a node without channels of its own gets those of the result, or keeps them whole."""
    place = layout.dim - (len(node.shape) - len(ties.shape_of(other)))
    found = _given(ties, other, Layout(place, layout.parts))
    if found is None:
        ties.freeze(layout.parts, f"joined at {node.op} ({node.name}) with fixed value {other}")
        return
    for name, given in found.items():
        if name in ties.tensors:
            ties.note_tensor(name, given.dim, given.parts)
        else:
            ties.freeze_value(name, f"meets channels of another dimension at {node.name}")
            ties.layouts[name] = given


def _given(ties: Ties, name: str, layout: Layout) -> dict[str, Layout] | None:
    """Layouts of a value and of all that it is made of; None where that is more than one can slice."""
    shape = ties.shape_of(name)
    if layout.dim < 0 or shape[layout.dim] == 1:
        return {}
    if shape[layout.dim] != layout.size:
        return None
    if name in ties.tensors:
        return {name: layout}
    node = ties.graph.by_name.get(name)
    found = None if node is None else _given_to_sources(ties, node, layout)
    return None if found is None else {**found, name: layout}


def _given_to_sources(ties: Ties, node: Node, layout: Layout) -> dict[str, Layout] | None:
    rule = node.facts.channels
    if rule is None:
        return None
    found: dict[str, Layout] = {}
    if rule.name in ("same", "binary"):
        operands = [arg.name for arg in node.args if isinstance(arg, Ref)]
        places = [layout.dim + len(ties.shape_of(name)) - len(node.shape) for name in operands]
    elif rule.name in _MOVES:
        operands = [node.ref(0)]
        place = _comes_from(ties, node, layout.dim)
        if place is None:
            return None
        places = [place]
    else:
        return None
    for name, place in zip(operands, places, strict=True):
        given = _given(ties, name, Layout(place, layout.parts))
        if given is None:
            return None
        found |= given
    return found


def _comes_from(ties: Ties, node: Node, dim: int) -> int | None:
    """The dimension of a move's source that is this one of its result, entry by entry or copied."""
    source = node.ref(0)
    shape = ties.shape_of(source)
    rule = node.facts.channels
    assert rule is not None
    if rule.name == "expand":
        return dim + len(shape) - len(node.shape)
    for place, size in enumerate(shape):
        probe = Ties(ties.graph, ties.tensors)
        probe.layouts[source] = whole = Layout(place, (Part(None, size),))
        found = _MOVES[rule.name](probe, node)
        if found is not None and found.dim == dim and found.parts == whole.parts:
            return place
    return None
