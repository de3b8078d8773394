"""How each operator carries channels from its inputs to its output.

A rule takes what is known, a node and the numbers that the table of operators gives beside the rule's
name, and returns the output's layout, or None where nothing may shrink. An operator without a rule
freezes the channels it reads: safe, and reported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from paredown.spaces.channels.giving import meet_fixed
from paredown.spaces.channels.moves import TURNS, expand, pick, select, take_slice, view
from paredown.spaces.channels.parts import Part
from paredown.spaces.channels.products import attention, product
from paredown.spaces.channels.ties import Layout, Ties
from paredown.spaces.graph.facts import ChannelRuleName
from paredown.spaces.graph.graph import Node, Ref

Rule = Callable[..., Layout | None]
"""From (ties, node, *numbers)."""


def _same(ties: Ties, node: Node) -> Layout | None:
    """Operators on entries one by one, and those that leave them where they are."""
    return ties.source(node)


def _spatial(ties: Ties, node: Node, dims: int) -> Layout | None:
    """Pools and resamplers over the last `dims` dimensions."""
    layout = ties.source(node)
    if layout is not None and layout.dim >= ties.rank(node) - dims:
        return ties.block(node, "works along the channels")
    return layout


def _along(ties: Ties, node: Node, position: int) -> Layout | None:
    """Operators that mix entries along one dimension, given as argument `position`."""
    layout = ties.source(node)
    if layout is not None and node.args[position] % ties.rank(node) == layout.dim:
        return ties.block(node, "works along the channels")
    return layout


def _per_channel(ties: Ties, node: Node, *positions: int) -> Layout | None:
    """Norms over (batch, channels, ...) with an entry per channel in the tensors `positions`."""
    layout = ties.source(node)
    if layout is None:
        return None
    if layout.dim != 1:
        return ties.block(node, "normalises another dimension than the channels")
    for position in positions:
        ref = node.args[position]
        if isinstance(ref, Ref) and ties.tensors[ref.name].numel() > 1:
            ties.note_tensor(ref.name, 0, layout.parts)
    return layout


def _layer_norm(ties: Ties, node: Node) -> Layout | None:
    layout = ties.source(node)
    if layout is not None and layout.dim >= ties.rank(node) - len(node.args[1]):
        return ties.block(node, "normalises over the channels")
    return layout


def _reduce(ties: Ties, node: Node) -> Layout | None:
    """Mean and sum over dimensions: (x, dims, keepdim, ...)."""
    layout, rank = ties.source(node), ties.rank(node)
    if layout is None:
        return None
    dims = {dim % rank for dim in node.args[1] or range(rank)}
    if layout.dim in dims:
        return ties.block(node, "reduces over the channels")
    gone = 0 if node.args[2] else sum(dim < layout.dim for dim in dims)
    return Layout(layout.dim - gone, layout.parts)


def _binary(ties: Ties, node: Node) -> Layout | None:
    """Operands, broadcast: all layouts must agree where they have more than one entry."""
    result: Layout | None = None
    operands = [arg.name for arg in node.args if isinstance(arg, Ref)]
    for name in operands:
        layout = ties.layouts.get(name)
        if layout is None:
            continue
        aligned = Layout(layout.dim + len(node.shape) - len(ties.shape_of(name)), layout.parts)
        if result is None:
            result = aligned
        elif result.dim != aligned.dim:
            return ties.block(node, "combines channels of different dimensions")
        else:
            parts = ties.unite(result.parts, aligned.parts, f"{node.op} ({node.name})")
            result = Layout(result.dim, parts)
    for name in operands:
        if result is not None and name not in ties.layouts:
            meet_fixed(ties, node, result, name)
    return result


def _cat(ties: Ties, node: Node) -> Layout | None:
    names = [ref.name for ref in node.args[0]]
    dim = node.args[1] % len(node.shape)
    layouts = [ties.layouts.get(name) for name in names]
    known = [layout for layout in layouts if layout is not None]
    if not known:
        return None
    if len({layout.dim for layout in known}) > 1:
        return ties.block(node, "joins channels of different dimensions")
    if known[0].dim == dim:
        parts = [
            layout.parts if layout is not None else (Part(None, ties.shape_of(name)[dim]),)
            for name, layout in zip(names, layouts, strict=True)
        ]
        return Layout(dim, sum(parts, ()))
    if len(known) < len(names):
        return ties.block(node, "joins channels with a fixed value")
    united = known[0].parts
    for layout in known[1:]:
        united = ties.unite(united, layout.parts, f"{node.op} ({node.name})")
    return Layout(known[0].dim, united)


def _pad(ties: Ties, node: Node) -> Layout | None:
    """Pads come in pairs from the last dimension backwards."""
    layout, rank, pads = ties.source(node), ties.rank(node), node.args[1]
    if layout is None:
        return None
    padded = {rank - 1 - i // 2 for i, pad in enumerate(pads) if pad != 0}
    if layout.dim in padded:
        return ties.block(node, "pads the channels")
    return layout


def _steps(ties: Ties, node: Node) -> Layout | None:
    """A hidden unit is its row in each gate, its column, its state, and what reads that."""
    gates = ties.source(node)
    position = node.facts.weight
    assert position is not None
    weight, bias = node.ref(position), node.args[position + 1]
    rows, units = ties.tensors[weight].shape
    if gates is None or len(gates.parts) != 1 or gates.parts[0].group is None:
        return ties.block(node, "has gates that are not those of one layer")
    part, *_ = ties.tile(gates.parts, gates.parts[0], rows // units)
    ties.note_tensor(weight, 0, (part,) * (rows // units))
    ties.note_tensor(weight, 1, (part,))
    if isinstance(bias, Ref):
        ties.note_tensor(bias.name, 0, (part,) * (rows // units))
    for state in node.args[1:position]:
        if isinstance(state, Ref):
            _meet_state(ties, node, part, state.name)
    return Layout(2, (part,))


def _meet_state(ties: Ties, node: Node, part: Part, state: str) -> None:
    """A state that is given ties its channels to the units, or keeps them whole."""
    known = ties.layouts.get(state)
    if known is None:
        ties.freeze((part,), f"begins at {node.op} ({node.name}) with the fixed state {state}")
    else:
        ties.unite((part,), known.parts, f"{node.op} ({node.name})")


RULES: Mapping[ChannelRuleName, Rule] = {
    "same": _same,
    "binary": _binary,
    "spatial": _spatial,
    "along": _along,
    "per_channel": _per_channel,
    "layer_norm": _layer_norm,
    "reduce": _reduce,
    "concat": _cat,
    "pad": _pad,
    "steps": _steps,
    "product": product,
    "attention": attention,
    "view": view,
    **TURNS,
    "select": select,
    "unbind": select,
    "slice": take_slice,
    "pieces": _same,
    "pick": pick,
    "expand": expand,
}
"""Rules by the names that the table of operators gives them; layers have theirs in `structure`."""
