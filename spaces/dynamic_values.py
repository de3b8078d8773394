"""Marks what linear layers read where their 8-bit codes get their range anew in every run.

Such a layer takes floats and gives floats: nothing around it changes, and no calibration is needed.
ONNX Runtime 1.31 has integer kernels of this kind for linear layers alone.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from paredown.spaces.functions import DYNAMIC_QDQ
from paredown.spaces.graph import Graph, Node, Ref


def reads_own_range(graph: Graph, node: Node) -> bool:
    """Whether the node is a linear layer whose input is rounded by its own range."""
    if node.op != "aten.linear.default":
        return False
    source = graph.by_name.get(node.args[0].name)
    return source is not None and source.op == DYNAMIC_QDQ


def mark_dynamic(graph: Graph, layers: Collection[str]) -> Graph:
    """The graph with a node that rounds by range in front of the linear `layers` (names of nodes).

    Layers that read the same value share it; the first of them names it.
    """
    nodes: list[Node] = []
    marked: dict[str, str] = {}
    for node in graph.nodes:
        if node.name in layers:
            value = node.args[0].name
            if value not in marked:
                shape = graph.shape_of(value)
                marked[value] = f"{node.name}.d"
                args = (Ref(value), shape[0])
                nodes.append(Node(name=marked[value], op=DYNAMIC_QDQ, args=args, shape=shape))
            node = replace(node, args=(Ref(marked[value]), *node.args[1:]))
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))
