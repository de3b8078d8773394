"""Removes channels physically: tensors get shorter and the graph's shapes follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from paredown.spaces.channels.moves import TAKES_APART
from paredown.spaces.channels.parts import Part, cut, size_of
from paredown.spaces.channels.pieces import bounds, piece_sizes
from paredown.spaces.graph.graph import Graph, Node
from paredown.spaces.graph.names import SPLIT_WITH_SIZES
from paredown.spaces.graph.sizes import Size
from paredown.spaces.structure.model_map import ModelMap


def kept_positions(parts: tuple[Part, ...], keep: Mapping[str, Tensor]) -> Tensor:
    """Positions along a dimension, part by part, that stay when groups keep some channels.

    Args:
        parts: The dimension's channels.
        keep: Channel indices to keep, int64, by group; a group that is not named keeps all.
    """
    positions: list[Tensor] = []
    start = 0
    for part in parts:
        kept = keep.get(part.group) if part.group is not None else None
        if kept is None:
            kept = torch.arange(part.channels)
        within = torch.arange(part.repeat)
        positions.append(start + (kept[:, None] * part.repeat + within).flatten())
        start += part.channels * part.repeat
    return torch.cat(positions)


def slice_tensors(
    model_map: ModelMap, tensors: Mapping[str, Tensor], keep: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """All tensors, with only the kept channels of the groups in `keep`.

    Args:
        tensors: By name; those that `model_map` does not know are passed on as they are.
        keep: Channel indices to keep, int64, by group.
    """
    sliced = dict(tensors)
    for (name, dim), parts in model_map.tensor_parts.items():
        if name in sliced and any(part.group in keep for part in parts):
            sliced[name] = sliced[name].index_select(
                dim, kept_positions(parts, keep).to(sliced[name].device)
            )
    return sliced


def narrow_graph(model_map: ModelMap, graph: Graph, widths: Mapping[str, int]) -> Graph:
    """The graph with the shapes, depthwise groups and explicit sizes that the widths lead to.

    Args:
        graph: The captured graph, or one derived from it that kept the names of its values.
        widths: Channels kept, by group; a group that is not named keeps all.
    """
    nodes = (_narrow_node(model_map, node, widths) for node in graph.nodes)
    return replace(graph, nodes=tuple(nodes))


def _narrow_node(model_map: ModelMap, node: Node, widths: Mapping[str, int]) -> Node:
    node = _narrow_cut(model_map, node, widths)
    if node.name not in model_map.value_parts:
        return node
    dim, parts = model_map.value_parts[node.name]
    size, old = narrowed_size(parts, widths), node.shape[dim]
    if size == old:
        return node
    node = replace(node, shape=(*node.shape[:dim], size, *node.shape[dim + 1 :]))
    facts = node.facts
    layer = model_map.layer_by_node.get(node.name)
    if layer is not None and layer.groups > 1:
        assert facts.layer is not None
        assert facts.layer.groups is not None
        return node.with_arg(facts.layer.groups, size)
    # -1 stays: it is inferred from the other sizes.
    if facts.sizes is not None and (given := node.args[facts.sizes][dim]) != -1:
        sizes = node.args[facts.sizes]
        known = given.scaled(size, old) if isinstance(given, Size) else size
        return node.with_arg(facts.sizes, (*sizes[:dim], known, *sizes[dim + 1 :]))
    return node


def _narrow_cut(model_map: ModelMap, node: Node, widths: Mapping[str, int]) -> Node:
    """A slice or split along channels, at the places where they lie then."""
    rule = node.facts.channels
    if rule is None or rule.name not in TAKES_APART or node.ref(0) not in model_map.value_parts:
        return node
    dim, parts = model_map.value_parts[node.ref(0)]
    old = size_of(parts)
    rank = len(model_map.graph.shape_of(node.ref(0)))
    if node.args[TAKES_APART[rule.name]] % rank != dim:
        return node

    def _narrowed(start: int, end: int) -> int:
        inside = cut(parts, start, end)
        assert inside is not None
        return narrowed_size(inside, widths)

    if rule.name == "slice":
        ends = bounds(node, old)
        assert ends is not None
        start = _narrowed(0, ends[0])
        return replace(
            node, args=(*node.args[:2], start, start + _narrowed(*ends), *node.args[4:])
        )
    sizes = piece_sizes(node, old)
    edges = tuple(accumulate(sizes, initial=0))
    narrowed = tuple(_narrowed(*pair) for pair in pairwise(edges))
    return replace(node, op=SPLIT_WITH_SIZES, args=(node.args[0], narrowed, *node.args[2:]))


def narrowed_size(parts: tuple[Part, ...], widths: Mapping[str, int]) -> int:
    """Entries left along a dimension when groups keep only so many channels."""
    return sum(
        (part.channels if part.group is None else widths.get(part.group, part.channels))
        * part.repeat
        for part in parts
    )
