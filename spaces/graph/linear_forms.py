"""Products with a stored matrix, however they are written, as the linear layers that they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from paredown.spaces.graph.graph import Graph, Node, Ref, prune_dead, rename_value

_ADDMM = "aten.addmm.default"
_PRODUCTS = ("aten.mm.default", "aten.matmul.default")
_LINEAR = "aten.linear.default"
_VIEW = "aten.view.default"


def as_linear(graph: Graph, tensors: Mapping[str, Tensor]) -> tuple[Graph, dict[str, Tensor]]:
    """The graph with linear layers for products with a stored matrix on the right.

    Args:
        graph: With the shapes of its example.

    Returns:
        The graph, and its tensors: the weight (out, in) of a layer has the name of the matrix (in, out)
        that it was.
    """
    weights: dict[str, str] = {}
    made = dict(tensors)
    nodes: dict[str, Node] = {}
    for node in graph.nodes:
        matrix = _matrix(node, tensors)
        if matrix is not None and matrix not in weights:
            is_alone = all(_matrix(user, tensors) == matrix for user in graph.users[matrix])
            turned = tensors[matrix].t().contiguous()
            weights[matrix] = _equal(turned, tensors) or (
                matrix if is_alone else f"{matrix}.transposed"
            )
            made[weights[matrix]] = turned
        nodes[node.name] = node if matrix is None else _linear(node, weights[matrix])
    layers = [name for name, node in nodes.items() if node is not graph.by_name[name]]
    graph = replace(graph, nodes=tuple(nodes.values()))
    for name in layers:
        graph = _without_views(graph, name)
    return prune_dead(graph), made


def _matrix(node: Node, tensors: Mapping[str, Tensor]) -> str | None:
    """The stored matrix that a node multiplies its rows by, adding a stored bias or nothing."""
    if node.op == _ADDMM and len(node.args) == 3:
        bias, rows, matrix = node.args
        if not (bias.name in tensors and tensors[bias.name].shape == node.shape[-1:]):
            return None
    elif node.op in _PRODUCTS:
        rows, matrix = node.args
    else:
        return None
    is_stored = matrix.name in tensors and rows.name not in tensors
    is_matrix = is_stored and tensors[matrix.name].dim() == 2
    return matrix.name if is_matrix and tensors[matrix.name].is_floating_point() else None


def _linear(node: Node, weight: str) -> Node:
    bias, rows = (node.args[0], node.args[1]) if node.op == _ADDMM else (None, node.args[0])
    return replace(node, op=_LINEAR, args=(rows, Ref(weight), bias))


def _equal(tensor: Tensor, tensors: Mapping[str, Tensor]) -> str | None:
    """The stored tensor that is the same already: a matrix may have been turned twice."""
    found = (n for n, x in tensors.items() if x.shape == tensor.shape and x.equal(tensor))
    return next(found, None)


def _without_views(graph: Graph, name: str) -> Graph:
    """A layer that reads rows of any rank, where they are made a matrix for it and rows again."""
    node = graph.by_name[name]
    before = graph.by_name.get(node.args[0].name)
    after = graph.users.get(name, ())
    if before is None or before.op != _VIEW or len(after) != 1 or after[0].op != _VIEW:
        return graph
    source = before.args[0].name
    if source not in graph.values or name in graph.outputs:
        return graph
    shape = (*graph.shape_of(source)[:-1], node.shape[-1])
    is_last_kept = graph.shape_of(source)[-1] == before.shape[-1]
    if after[0].shape != shape or not is_last_kept:
        return graph
    wide = replace(node, args=(Ref(source), *node.args[1:]), shape=shape)
    nodes = (
        wide if n is node else replace(n, args=rename_value(n.args, after[0].name, name))
        for n in graph.nodes
        if n is not after[0]
    )
    outputs = tuple(name if o == after[0].name else o for o in graph.outputs)
    return replace(graph, nodes=tuple(nodes), outputs=outputs)
