"""Marks what linear layers read where their 8-bit codes get their range anew in every run.

Such a layer takes floats and gives floats: nothing around it changes, and no calibration is needed.
ONNX Runtime 1.31 has integer kernels of this kind for linear layers alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from paredown.spaces.graph.facts import Result
from paredown.spaces.graph.functions import DYNAMIC_QDQ
from paredown.spaces.graph.graph import Arguments, Graph, Node, Ref, run
from paredown.spaces.graph.recurrent import LSTM, ROWS
from paredown.spaces.graph.sizes import TIME, Size, SizeError
from paredown.spaces.structure.model_map import BatchPlace

FIRST = BatchPlace(axis=0, outside=1, inside=1)
"""Where nearly all values have their batch."""

_BATCH = 10_007
"""A prime no size of a network is a multiple of."""


def batch_places(graph: Graph, tensors: Mapping[str, Tensor]) -> dict[str, BatchPlace]:
    """By node of a linear layer, where the batch lies in what it reads, if not `FIRST`.

    Tokens come first inside torch's MultiheadAttention: (tokens, batch, channels), which is then viewed
    as (tokens * batch, channels). Shapes are followed at another batch size; nothing is computed. A view
    keeps the order of all values, so what lies in front of the batch stays; other operators keep how the
    batch lies inside its dimension. Where time is free, shapes are followed at both ends of its range.

    Raises:
        SizeError: Steps that the batch repeats in, or that a sample has, do not follow a free time.
    """
    found = _places_at(graph, tensors, graph.axes.get(TIME, 0))
    first, last = found, found
    if graph.timed:
        first, last = (_places_at(graph, tensors, length) for length in graph.lengths)
    places = {
        name: BatchPlace(
            axis=here.axis,
            outside=_line(graph, first[name].outside, here.outside, last[name].outside),
            inside=_line(graph, first[name].inside, here.inside, last[name].inside),
        )
        for name, here in found.items()
    }
    return {name: place for name, place in places.items() if place != FIRST}


class _Place(NamedTuple):
    """A `BatchPlace` at one length."""

    axis: int = 0
    outside: int = 1
    inside: int = 1


def _places_at(graph: Graph, tensors: Mapping[str, Tensor], length: int) -> dict[str, _Place]:
    """Those of all linear layers at one length of the free time axis, if there is one."""
    inputs = []
    for name, shape, dtype in zip(
        graph.inputs, graph.input_shapes, graph.input_dtypes, strict=True
    ):
        further = (length, *shape[2:]) if name in graph.timed else shape[1:]
        inputs.append(torch.empty(_BATCH, *further, dtype=getattr(torch, dtype), device="meta"))
    places = dict.fromkeys(graph.inputs, _Place())
    shapes = {name: tuple(x.shape) for name, x in zip(graph.inputs, inputs, strict=True)}

    def _follow(node: Node, arguments: Arguments, output: Result) -> Result:
        shape = tuple((output if isinstance(output, Tensor) else output[0]).shape)
        source = next((name for name in node.inputs if name in places), None)
        axis = next((axis for axis, size in enumerate(shape) if size % _BATCH == 0), None)
        if source is not None and axis is not None:
            before, outside, _ = places[source]
            if node.facts.kind == "reshape":
                outside = outside * math.prod(shapes[source][:before]) // math.prod(shape[:axis])
            inside = shape[axis] // (_BATCH * outside)
            places[node.name] = _Place(axis, outside, inside)
            shapes[node.name] = shape
        return output

    run(graph, {name: t.to("meta") for name, t in tensors.items()}, inputs, after=_follow)
    linear = (node for node in graph.nodes if _is_linear(node))
    return {node.name: places.get(node.args[0].name, _Place()) for node in linear}


def _line(graph: Graph, first: int, here: int, last: int) -> int | Size:
    """A number that grows evenly with the time axis, from its values at both ends and here."""
    if first == last:
        return here
    low, high = graph.lengths
    slope = (last - first) // (high - low)
    size = Size(("+", ("*", slope, TIME), first - slope * low))
    if [size.at({TIME: at}) for at in (graph.axes[TIME], high)] != [here, last]:
        raise SizeError(
            f"hardware.axes.time: positions that a linear layer reads must grow evenly with the length, "
            f"got {first}, {here} and {last} at {low}, {graph.axes[TIME]} and {high}; leave "
            "hardware.axes.time out"
        )
    return size


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
                marked[value] = f"{node.name}.d"
                place = layers[node.name]
                args = (Ref(value), place.rows(graph.batch_size), place.axis, place.outside)
                shape = graph.shape_of(value)
                nodes.append(Node(name=marked[value], op=DYNAMIC_QDQ, args=args, shape=shape))
            node = replace(node, args=(Ref(marked[value]), *node.args[1:]))
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))
