"""Channels through operators that only move values: views, transposes, slices and pieces."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from paredown.spaces.channels.parts import Part, Parts, size_of
from paredown.spaces.channels.pieces import bounds, piece_sizes
from paredown.spaces.channels.ties import Layout, Ties
from paredown.spaces.graph.facts import ChannelRuleName
from paredown.spaces.graph.graph import Node

TAKES_APART: Mapping[ChannelRuleName, int] = {"select": 1, "unbind": 1, "slice": 1, "pieces": 2}
"""Rules of operators that take a dimension apart, with the position of the argument that names it."""


def view(ties: Ties, node: Node) -> Layout | None:
    """Reshapes: the channel dimension is split, or merged with its neighbours.

    A dimension of the result holds the channels where its entries are runs of them, or whole numbers of
    runs. What lies in front of it in the channel dimension are pieces that are tied to each other; what
    follows it is one channel together: [.., 3 * h * d] seen as [.., 3, h, d] holds h channels, each of d
    entries of the queries, of the keys and of the values.
    """
    layout = ties.source(node)
    if layout is None:
        return None
    old = ties.shape_of(node.ref(0))
    for is_free in (True, False):
        for dim, size in enumerate(node.shape):
            # Dimension 0 is the batch, also where it is split off from others.
            if (
                dim == 0
                or (size == 1 < layout.size)
                or (not is_free and _is_taken(ties, node, dim))
            ):
                continue
            ahead = (math.prod(old[: layout.dim]), math.prod(node.shape[:dim]))
            behind = (math.prod(old[layout.dim + 1 :]), math.prod(node.shape[dim + 1 :]))
            parts = _viewed(ties, layout.parts, ahead, behind, is_free)
            if parts is not None:
                return Layout(dim, parts)
    return ties.block(node, "reshapes across the channels")


def _viewed(
    ties: Ties, parts: Parts, ahead: tuple[int, int], behind: tuple[int, int], is_free: bool
) -> Parts | None:
    """The parts of a dimension with so many entries ahead and behind, before and after the view.

    Args:
        is_free: Whether only what needs no channels to be tied counts.
    """
    runs, copies = _times(*ahead)
    count, more = _times(*behind)
    if 0 in (runs, count):
        return None
    run = _run_of(parts, runs)
    if run is None or not all(_folds(part, count) for part in run):
        return None
    if size_of(run) == count > 1:
        return None  # all channels in one
    is_tied = len(run) * runs == len(parts) and all(part.repeat % count == 0 for part in run)
    if is_free and not is_tied:
        return None
    parts = _tied_runs(ties, parts, run, runs)
    for place in range(len(parts)):
        part = parts[place]
        if part.group is not None and part.repeat % count:
            parts = ties.fold(parts, part, count // part.repeat)
    return tuple(_seen(part, count, more) for part in parts) * copies


def _times(old: int, new: int) -> tuple[int, int]:
    """How often the old number is in the new one, and the new in the old; a zero where neither."""
    if new % old == 0:
        return new // old, 1
    return (1, old // new) if old % new == 0 else (0, 0)


def _run_of(parts: Parts, runs: int) -> Parts | None:
    """The first of so many runs of one structure; None where they are of several."""
    if len(parts) == 1 and parts[0].channels % runs == 0:
        return (Part(parts[0].group, parts[0].channels // runs, parts[0].repeat),)
    length, rest = divmod(len(parts), runs)
    structure = [(part.channels, part.repeat) for part in parts]
    return None if rest or structure != structure[:length] * runs else parts[:length]


def _folds(part: Part, count: int) -> bool:
    """Whether `count` entries in a row are whole channels, or all of one."""
    channels, rest = divmod(count, part.repeat)
    return part.repeat % count == 0 or (rest == 0 and part.channels % channels == 0)


def _tied_runs(ties: Ties, parts: Parts, run: Parts, runs: int) -> Parts:
    if runs == 1 or (len(parts) == 1 and run[0].group is None):
        return run
    if len(parts) == 1:
        return ties.tile(parts, parts[0], runs)[:1]
    for start in range(len(run), len(parts), len(run)):
        run = ties.unite(run, parts[start : start + len(run)], "a view")
    return run


def _seen(part: Part, count: int, more: int) -> Part:
    """The part where `count` entries are one, or one is `more`."""
    if part.repeat % count == 0:
        return Part(part.group, part.channels, part.repeat // count * more)
    return Part(None, part.size // count)


def _is_taken(ties: Ties, node: Node, dim: int) -> bool:
    """Whether a dimension of a view is taken apart, as that of queries, keys and values is."""
    probe = Ties(ties.graph, ties.tensors)
    probe.layouts[node.name] = Layout(dim, (Part(None, node.shape[dim]),))
    waiting = [node.name]
    while waiting:
        name = waiting.pop()
        for reader in ties.graph.users.get(name, ()):
            rule = reader.facts.channels
            if rule is None or reader.inputs[0] != name:
                continue
            position = TAKES_APART.get(rule.name)
            if position is not None:
                if reader.args[position] % probe.rank(reader) == probe.layouts[name].dim:
                    return True
            elif rule.name in TURNS and (found := TURNS[rule.name](probe, reader)) is not None:
                probe.layouts[reader.name] = found
                waiting.append(reader.name)
    return False


def transpose(ties: Ties, node: Node) -> Layout | None:
    """Two dimensions change places."""
    layout, rank = ties.source(node), ties.rank(node)
    if layout is None:
        return None
    a, b = node.args[1] % rank, node.args[2] % rank
    return Layout({a: b, b: a}.get(layout.dim, layout.dim), layout.parts)


def permute(ties: Ties, node: Node) -> Layout | None:
    """All dimensions change places."""
    layout, rank = ties.source(node), ties.rank(node)
    if layout is None:
        return None
    return Layout([dim % rank for dim in node.args[1]].index(layout.dim), layout.parts)


def unsqueeze(ties: Ties, node: Node) -> Layout | None:
    """One more dimension, of one entry."""
    layout = ties.source(node)
    if layout is None:
        return None
    new = node.args[1] % len(node.shape)
    return Layout(layout.dim + (new <= layout.dim), layout.parts)


def squeeze(ties: Ties, node: Node) -> Layout | None:
    """One dimension less, if it has one entry."""
    layout, rank = ties.source(node), ties.rank(node)
    if layout is None:
        return None
    gone = node.args[1] % rank
    return Layout(layout.dim - (len(node.shape) < rank and gone < layout.dim), layout.parts)


TURNS: Mapping[ChannelRuleName, Callable[[Ties, Node], Layout | None]] = {
    "transpose": transpose,
    "permute": permute,
    "unsqueeze": unsqueeze,
    "squeeze": squeeze,
}
"""Rules that keep every dimension as it is, in another place."""


def select(ties: Ties, node: Node) -> Layout | None:
    """One entry of a dimension, or all of them as a tuple, without that dimension."""
    layout, gone = ties.source(node), node.args[1] % ties.rank(node)
    if layout is None:
        return None
    if layout.dim == gone:
        return ties.block(node, "takes the channels apart one by one")
    return Layout(layout.dim - (gone < layout.dim), layout.parts)


def take_slice(ties: Ties, node: Node) -> Layout | None:
    """Some of a dimension: of the channels those become a group of their own."""
    layout = ties.source(node)
    if layout is None or node.args[1] % ties.rank(node) != layout.dim:
        return layout
    ends = bounds(node, layout.size)
    parts = None if ends is None else ties.cut(layout.parts, *ends)
    if parts is None:
        return ties.block(node, "takes other channels than some in a row")
    return Layout(layout.dim, parts)


def pick(ties: Ties, node: Node) -> Layout | None:
    """One of several outputs: of pieces that one's channels; of cells the last has no time in front."""
    layout = ties.source(node)
    source = ties.graph.by_name[node.ref(0)]
    if layout is None:
        return None
    if source.facts.kind == "recurrent":
        return Layout(len(node.shape) - 1, layout.parts)
    rule = source.facts.channels
    if rule is None or rule.name != "pieces" or source.args[2] % ties.rank(source) != layout.dim:
        return layout
    sizes = piece_sizes(source, layout.size)
    start = sum(sizes[: node.args[1]])
    parts = ties.cut(layout.parts, start, start + sizes[node.args[1]])
    if parts is None:
        return ties.block(node, "is a piece of a channel")
    return Layout(layout.dim, parts)


def expand(ties: Ties, node: Node) -> Layout | None:
    """Copies along dimensions of one entry; those of the channels must be none."""
    layout = ties.source(node)
    if layout is None:
        return None
    dim = layout.dim + len(node.shape) - ties.rank(node)
    if node.shape[dim] != layout.size:
        return ties.block(node, "repeats the channels")
    return Layout(dim, layout.parts)
