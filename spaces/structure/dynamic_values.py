"""Marks what linear layers read where their 8-bit codes get their range anew in every run.

Such a layer takes floats and gives floats: nothing around it changes, and no calibration is needed.
ONNX Runtime 1.31 has integer kernels of this kind for linear layers alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from paredown.spaces.graph.facts import Result
from paredown.spaces.graph.functions import DYNAMIC_QDQ
from paredown.spaces.graph.graph import Arguments, Graph, Node, Ref, run
from paredown.spaces.graph.recurrent import LSTM, ROWS
from paredown.spaces.structure.model_map import BatchPlace

FIRST: BatchPlace = (0, 1)
"""Where nearly all values have their batch."""

_BATCH = 10_007
"""A prime no size of a network is a multiple of."""


def batch_places(graph: Graph, tensors: Mapping[str, Tensor]) -> dict[str, BatchPlace]:
    """By node of a linear layer, where the batch lies in what it reads, if not `FIRST`.

    Tokens come first inside torch's MultiheadAttention: (tokens, batch, channels), which is then viewed
    as (tokens * batch, channels). Shapes are followed at another batch size; nothing is computed. A view
    keeps the order of all values, so what lies in front of the batch stays; other operators keep how the
    batch lies inside its dimension.
    """
    inputs = [
        torch.empty(_BATCH, *shape[1:], dtype=getattr(torch, dtype), device="meta")
        for shape, dtype in zip(graph.input_shapes, graph.input_dtypes, strict=True)
    ]
    places = dict.fromkeys(graph.inputs, FIRST)
    shapes = {name: tuple(x.shape) for name, x in zip(graph.inputs, inputs, strict=True)}

    def _follow(node: Node, _: Arguments, output: Result) -> Result:
        shape = tuple((output if isinstance(output, Tensor) else output[0]).shape)
        source = next((name for name in node.inputs if name in places), None)
        axis = next((axis for axis, size in enumerate(shape) if size % _BATCH == 0), None)
        if source is not None and axis is not None:
            before, outside = places[source]
            if node.facts.kind == "reshape":
                outside = outside * math.prod(shapes[source][:before]) // math.prod(shape[:axis])
            places[node.name], shapes[node.name] = (axis, outside), shape
        return output

    run(graph, {name: t.to("meta") for name, t in tensors.items()}, inputs, after=_follow)
    linear = (node for node in graph.nodes if _is_linear(node))
    read = {node.name: places.get(node.args[0].name, FIRST) for node in linear}
    return {name: place for name, place in read.items() if place != FIRST}


def reads_own_range(graph: Graph, node: Node) -> bool:
    """Whether the node is a linear layer whose input is rounded by its own range."""
    if not _is_linear(node):
        return False
    source = graph.by_name.get(node.args[0].name)
    return source is not None and source.op == DYNAMIC_QDQ


def rounds_state(node: Node) -> bool:
    """Whether the node is the steps of an LSTM whose state is rounded by its own range."""
    return node.op == LSTM and node.args[ROWS] is not None


def finds_ranges(graph: Graph) -> bool:
    """Whether codes get their range from the rows that are run together: others give other outputs."""
    return any(node.op == DYNAMIC_QDQ or rounds_state(node) for node in graph.nodes)


def _is_linear(node: Node) -> bool:
    layer = node.facts.layer
    return layer is not None and layer.kind == "linear"


def mark_dynamic(graph: Graph, layers: Mapping[str, BatchPlace]) -> Graph:
    """The graph with a node that rounds by range in front of linear layers.

    Layers that read the same value share it; the first of them names it. Steps of an LSTM round their
    state themselves.

    Args:
        layers: By name of their nodes, where the batch lies in what they read.
    """
    nodes: list[Node] = []
    marked: dict[str, str] = {}
    for node in graph.nodes:
        if node.op == LSTM and node.name in layers:
            nodes.append(node.with_arg(ROWS, graph.shape_of(node.ref(0))[1]))
            continue
        if node.name in layers:
            value = node.args[0].name
            if value not in marked:
                shape = graph.shape_of(value)
                marked[value] = f"{node.name}.d"
                axis, outside = layers[node.name]
                args = (Ref(value), shape[axis] // outside, axis, outside)
                nodes.append(Node(name=marked[value], op=DYNAMIC_QDQ, args=args, shape=shape))
            node = replace(node, args=(Ref(marked[value]), *node.args[1:]))
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))
