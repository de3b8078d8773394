"""Removes channels physically: tensors get shorter and the graph's shapes follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from paredown.spaces.graph.graph import Graph, Node
from paredown.spaces.structure.model_map import ModelMap, Part


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
            sliced[name] = sliced[name].index_select(dim, kept_positions(parts, keep))
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
    if node.name not in model_map.value_parts:
        return node
    dim, parts = model_map.value_parts[node.name]
    size = narrowed_size(parts, widths)
    if size == node.shape[dim]:
        return node
    node = replace(node, shape=(*node.shape[:dim], size, *node.shape[dim + 1 :]))
    facts = node.facts
    layer = model_map.layer_by_node.get(node.name)
    if layer is not None and layer.groups > 1:
        assert facts.layer is not None
        assert facts.layer.groups is not None
        return node.with_arg(facts.layer.groups, size)
    # -1 stays: it is inferred from the other sizes.
    if facts.sizes is not None and node.args[facts.sizes][dim] != -1:
        sizes = node.args[facts.sizes]
        return node.with_arg(facts.sizes, (*sizes[:dim], size, *sizes[dim + 1 :]))
    return node


def narrowed_size(parts: tuple[Part, ...], widths: Mapping[str, int]) -> int:
    """Entries left along a dimension when groups keep only so many channels."""
    return sum(
        (part.channels if part.group is None else widths.get(part.group, part.channels))
        * part.repeat
        for part in parts
    )
