"""Splits the graph into runs of operators that compute at one activation precision.

Precision may change only where a single value crosses, so that both branches of a residual block
and its shortcut always agree. Masks and constants do not count: they stay float in any case, and a
mask that every attention reads would make one segment of a whole transformer. What gates read and the
steps that follow are one operator of the runtime, so they agree too.
"""

from __future__ import annotations

from paredown.spaces.graph.graph import Graph
from paredown.spaces.graph.recurrent import GATES
from paredown.spaces.structure.blocks import module_path
from paredown.spaces.structure.model_map import Layer, Segment
from paredown.spaces.structure.side_values import side_values


def read_segments(graph: Graph, layers: tuple[Layer, ...]) -> tuple[Segment, ...]:
    """Segments in execution order; every node is in exactly one, and every one holds a layer.

    A run without a layer (activations, pools, reshapes) joins the segment before it, or the one
    after it at the very start. A graph without layers is one segment.
    """
    layer_of = {node: layer.name for layer in layers for node in layer.nodes}
    runs: list[list[str]] = [[]]
    for run in _runs(graph, layers):
        starts_new = any(name in layer_of for name in run)
        if starts_new and any(name in layer_of for name in runs[-1]):
            runs.append([])
        runs[-1].extend(run)
    members = [
        tuple(dict.fromkeys(layer_of[name] for name in run if name in layer_of)) for run in runs
    ]
    names = _names(members)
    return tuple(
        Segment(name=name, nodes=tuple(run), layers=inside)
        for name, run, inside in zip(names, runs, members, strict=True)
    )


def _runs(graph: Graph, layers: tuple[Layer, ...]) -> list[list[str]]:
    """The node sequence cut wherever at most one value is still to be read.

    Never between two calls of a layer: it has one weight, so it computes at one precision.
    """
    position_of = {node.name: position for position, node in enumerate(graph.nodes)}
    called_again = {
        position
        for layer in layers
        for position in range(position_of[layer.nodes[0]], position_of[layer.nodes[-1]])
    }
    crossing = graph.values - side_values(graph)
    last_use = {
        name: position_of[users[-1].name]
        for name, users in graph.users.items()
        if name in crossing
    }
    runs: list[list[str]] = [[]]
    # An input is alive from the first operator on, whether or not it was read yet.
    alive = set(graph.inputs) & last_use.keys()
    for position, node in enumerate(graph.nodes):
        runs[-1].append(node.name)
        if node.name in last_use:
            alive.add(node.name)
        alive = {name for name in alive if last_use[name] > position}
        ends = position + 1 == len(graph.nodes)
        may_end = not ends and node.op != GATES and position not in called_again
        if len(alive) <= 1 and may_end:
            runs.append([])
    return runs


def _names(members: list[tuple[str, ...]]) -> list[str]:
    """The module path a segment's layers share; if not unique, its first and last layer."""
    paths = [module_path(inside) for inside in members]
    names: list[str] = []
    for path, inside in zip(paths, members, strict=True):
        if not inside:
            names.append("all")
        elif path and paths.count(path) == 1:
            names.append(path)
        else:
            names.append(f"{inside[0]}..{inside[-1]}")
    return names
