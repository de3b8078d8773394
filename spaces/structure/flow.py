"""How each operator carries channels from its inputs to its output.

A rule takes what is known, a node and the numbers that the table of operators gives beside the rule's
name, and returns the output's layout, or None where nothing may shrink. An operator without a rule
freezes the channels it reads: safe, and reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from paredown.spaces.graph.facts import ChannelRuleName
from paredown.spaces.graph.graph import Node, Ref
from paredown.spaces.structure.model_map import Part
from paredown.spaces.structure.ties import Layout, Ties

Rule = Callable[..., Layout | None]
"""From (ties, node, *numbers)."""


def blocked(ties: Ties, node: Node, why: str) -> Layout | None:
    """No layout, and all channels that the node reads are frozen."""
    for name in node.inputs:
        ties.freeze_value(name, f"{node.op} ({node.name}) {why}")
    return None


def _source(ties: Ties, node: Node) -> Layout | None:
    first = node.args[0]
    return ties.layouts.get(first.name) if isinstance(first, Ref) else None


def _rank(ties: Ties, node: Node) -> int:
    """Number of dimensions of the node's first argument."""
    return len(_shape(ties, node.args[0].name))


def _spatial(ties: Ties, node: Node, dims: int) -> Layout | None:
    """Pools and resamplers over the last `dims` dimensions."""
    layout = _source(ties, node)
    if layout is not None and layout.dim >= _rank(ties, node) - dims:
        return blocked(ties, node, "works along the channels")
    return layout


def _along(ties: Ties, node: Node, position: int) -> Layout | None:
    """Operators that mix entries along one dimension, given as argument `position`."""
    layout = _source(ties, node)
    if layout is not None and node.args[position] % _rank(ties, node) == layout.dim:
        return blocked(ties, node, "works along the channels")
    return layout


def _per_channel(ties: Ties, node: Node, *positions: int) -> Layout | None:
    """Norms over (batch, channels, ...) with an entry per channel in the tensors `positions`."""
    layout = _source(ties, node)
    if layout is None:
        return None
    if layout.dim != 1:
        return blocked(ties, node, "normalises another dimension than the channels")
    for position in positions:
        ref = node.args[position]
        if isinstance(ref, Ref) and ties.tensors[ref.name].numel() > 1:
            ties.note_tensor(ref.name, 0, layout.parts)
    return layout


def _layer_norm(ties: Ties, node: Node) -> Layout | None:
    layout = _source(ties, node)
    if layout is not None and layout.dim >= _rank(ties, node) - len(node.args[1]):
        return blocked(ties, node, "normalises over the channels")
    return layout


def _reduce(ties: Ties, node: Node) -> Layout | None:
    """Mean and sum over dimensions: (x, dims, keepdim, ...)."""
    layout, rank = _source(ties, node), _rank(ties, node)
    if layout is None:
        return None
    dims = {dim % rank for dim in node.args[1] or range(rank)}
    if layout.dim in dims:
        return blocked(ties, node, "reduces over the channels")
    gone = 0 if node.args[2] else sum(dim < layout.dim for dim in dims)
    return Layout(layout.dim - gone, layout.parts)


def _binary(ties: Ties, node: Node) -> Layout | None:
    """Two operands, broadcast: both layouts must agree where both have more than one entry."""
    result: Layout | None = None
    operands = [arg.name for arg in node.args[:2] if isinstance(arg, Ref)]
    for name in operands:
        layout = ties.layouts.get(name)
        if layout is None:
            continue
        aligned = Layout(layout.dim + len(node.shape) - len(_shape(ties, name)), layout.parts)
        if result is None:
            result = aligned
        elif result.dim != aligned.dim:
            return blocked(ties, node, "combines channels of different dimensions")
        else:
            parts = ties.unite(result.parts, aligned.parts, f"{node.op} ({node.name})")
            result = Layout(result.dim, parts)
    for name in operands:
        if result is not None and name not in ties.layouts:
            _meet_fixed(ties, node, result, name)
    return result


def _meet_fixed(ties: Ties, node: Node, layout: Layout, other: str) -> None:
    """An operand without channels of its own: a stored tensor is sliced along, a value freezes."""
    shape = _shape(ties, other)
    dim = layout.dim - (len(node.shape) - len(shape))
    if dim < 0 or shape[dim] == 1:
        return
    if other in ties.tensors:
        ties.note_tensor(other, dim, layout.parts)
    else:
        ties.freeze(layout.parts, f"joined at {node.op} ({node.name}) with fixed value {other}")


def _shape(ties: Ties, name: str) -> tuple[int, ...]:
    return tuple(ties.tensors[name].shape) if name in ties.tensors else ties.graph.shape_of(name)


def _cat(ties: Ties, node: Node) -> Layout | None:
    names = [ref.name for ref in node.args[0]]
    dim = node.args[1] % len(node.shape)
    layouts = [ties.layouts.get(name) for name in names]
    known = [layout for layout in layouts if layout is not None]
    if not known:
        return None
    if len({layout.dim for layout in known}) > 1:
        return blocked(ties, node, "joins channels of different dimensions")
    if known[0].dim == dim:
        parts = [
            layout.parts if layout is not None else (Part(None, _shape(ties, name)[dim]),)
            for name, layout in zip(names, layouts, strict=True)
        ]
        return Layout(dim, sum(parts, ()))
    if len(known) < len(names):
        return blocked(ties, node, "joins channels with a fixed value")
    united = known[0].parts
    for layout in known[1:]:
        united = ties.unite(united, layout.parts, f"{node.op} ({node.name})")
    return Layout(known[0].dim, united)


def _view(ties: Ties, node: Node) -> Layout | None:
    """Reshapes that keep the channels in one dimension, alone or times what followed them.

    With `before` entries ahead of the channel dimension, the new one is where the product of the
    new sizes reaches `before` again; it then holds every channel `repeat` times in a row.
    """
    layout = _source(ties, node)
    if layout is None:
        return None
    old, new = ties.graph.shape_of(node.args[0].name), node.shape
    before, channels = math.prod(old[: layout.dim]), old[layout.dim]
    for dim in range(1, len(new)):
        repeat, rest = divmod(new[dim], channels)
        if math.prod(new[:dim]) == before and repeat > 0 and rest == 0:
            parts = (Part(p.group, p.channels, p.repeat * repeat) for p in layout.parts)
            return Layout(dim, tuple(parts))
    return blocked(ties, node, "reshapes across the channels")


def _transpose(ties: Ties, node: Node) -> Layout | None:
    layout, rank = _source(ties, node), _rank(ties, node)
    if layout is None:
        return None
    a, b = node.args[1] % rank, node.args[2] % rank
    return Layout({a: b, b: a}.get(layout.dim, layout.dim), layout.parts)


def _permute(ties: Ties, node: Node) -> Layout | None:
    layout, rank = _source(ties, node), _rank(ties, node)
    if layout is None:
        return None
    return Layout([dim % rank for dim in node.args[1]].index(layout.dim), layout.parts)


def _unsqueeze(ties: Ties, node: Node) -> Layout | None:
    layout = _source(ties, node)
    if layout is None:
        return None
    new = node.args[1] % len(node.shape)
    return Layout(layout.dim + (new <= layout.dim), layout.parts)


def _squeeze(ties: Ties, node: Node) -> Layout | None:
    layout, rank = _source(ties, node), _rank(ties, node)
    if layout is None:
        return None
    gone = node.args[1] % rank
    return Layout(layout.dim - (len(node.shape) < rank and gone < layout.dim), layout.parts)


def _select(ties: Ties, node: Node) -> Layout | None:
    layout = _along(ties, node, 1)
    if layout is None:
        return None
    return Layout(layout.dim - (node.args[1] % _rank(ties, node) < layout.dim), layout.parts)


def _pad(ties: Ties, node: Node) -> Layout | None:
    """Pads come in pairs from the last dimension backwards."""
    layout, rank, pads = _source(ties, node), _rank(ties, node), node.args[1]
    if layout is None:
        return None
    padded = {rank - 1 - i // 2 for i, pad in enumerate(pads) if pad != 0}
    if layout.dim in padded:
        return blocked(ties, node, "pads the channels")
    return layout


def _expand(ties: Ties, node: Node) -> Layout | None:
    layout = _source(ties, node)
    if layout is None:
        return None
    dim = layout.dim + len(node.shape) - _rank(ties, node)
    if node.shape[dim] != layout.size:
        return blocked(ties, node, "repeats the channels")
    return Layout(dim, layout.parts)


def _steps(ties: Ties, node: Node) -> Layout | None:
    """A hidden unit is its row in each gate, its column, its state, and what reads that."""
    gates = _source(ties, node)
    position = node.facts.weight
    assert position is not None
    weight, bias = node.ref(position), node.args[position + 1]
    rows, units = ties.tensors[weight].shape
    if gates is None or len(gates.parts) != 1 or gates.parts[0].group is None:
        return blocked(ties, node, "has gates that are not those of one layer")
    part = ties.tile(gates.parts[0], rows // units)
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


def _pick(ties: Ties, node: Node) -> Layout | None:
    """One of several outputs: pieces lie as the whole does, the last cell has no time in front."""
    layout = _source(ties, node)
    source = ties.graph.by_name[node.ref(0)]
    if layout is None or source.facts.kind != "recurrent":
        return layout
    return Layout(len(node.shape) - 1, layout.parts)


RULES: Mapping[ChannelRuleName, Rule] = {
    "same": _source,
    "binary": _binary,
    "spatial": _spatial,
    "along": _along,
    "per_channel": _per_channel,
    "layer_norm": _layer_norm,
    "reduce": _reduce,
    "concat": _cat,
    "view": _view,
    "transpose": _transpose,
    "permute": _permute,
    "unsqueeze": _unsqueeze,
    "squeeze": _squeeze,
    "select": _select,
    "pad": _pad,
    "expand": _expand,
    "steps": _steps,
    "pick": _pick,
}
"""Rules by the names that the table of operators gives them; layers have theirs in `channels`."""
