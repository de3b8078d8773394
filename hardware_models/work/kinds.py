"""What work a node is: its operator's kind, and of layers the weight and the groups."""

from __future__ import annotations

from paredown.spaces.graph.facts import WorkKind
from paredown.spaces.graph.graph import Node


def kind_of(node: Node, weight_shape: tuple[int, ...] = ()) -> WorkKind | None:
    """The kind of work a node is, None where it is none of its own.

    Args:
        weight_shape: Of a convolution whose groups may make it a depthwise one.

    Raises:
        GraphError: The operator is not in the table.
    """
    kind = node.facts.kind
    if kind == "conv" and weight_shape and 1 < weight_shape[0] == groups_of(node):
        return "depthwise_conv"
    return kind


def groups_of(node: Node) -> int:
    """Groups of a convolution; 1 for anything else."""
    layer = node.facts.layer
    return 1 if layer is None or layer.groups is None else int(node.args[layer.groups])


def weight_name(node: Node) -> str:
    """Name of the value a layer takes as its weight; "" for what is no layer."""
    facts = node.facts
    if facts.layer is None:
        return ""
    assert facts.weight is not None
    return node.ref(facts.weight)
