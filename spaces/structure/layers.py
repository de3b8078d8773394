"""Finds the layers of a captured graph: operators whose own weight has an axis over the outputs."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from paredown.spaces.capture.capturing import Captured
from paredown.spaces.graph.facts import LayerFacts
from paredown.spaces.graph.graph import Graph, Node, Ref
from paredown.spaces.graph.recurrent import GATES, LSTM
from paredown.spaces.structure.model_map import Layer, LeftOut


def read_layers(captured: Captured) -> tuple[tuple[Layer, ...], tuple[LeftOut, ...]]:
    """Layers in execution order, and the weights that belong to none, with the reason."""
    graph, tensors = captured.graph, captured.tensors
    layers: list[Layer] = []
    left_out: dict[str, LeftOut] = {}
    for node in graph.nodes:
        facts = node.facts.layer
        if facts is None:
            continue
        weight = _weight_of(node)
        reason = _obstacle(graph, tensors, node, facts)
        if reason is None:
            layers.append(_read_layer(graph, tensors, node, facts))
        else:
            what = _module_path(weight) if weight in tensors else node.name
            left_out[what] = LeftOut(what=what, reason=reason)
    weights = {layer.weight for layer in layers}
    for name in graph.tensor_names():
        what = _module_path(name)
        if tensors[name].ndim >= 2 and name not in weights and what not in left_out:
            ops = ", ".join(dict.fromkeys(node.op for node in graph.users[name]))
            left_out[what] = LeftOut(what=what, reason=f"{name} is read by {ops}, not by a layer")
    return tuple(layers), tuple(left_out.values())


def _weight_of(node: Node) -> str:
    assert node.facts.weight is not None
    return node.ref(node.facts.weight)


def _obstacle(
    graph: Graph, tensors: Mapping[str, Tensor], node: Node, facts: LayerFacts
) -> str | None:
    weight = _weight_of(node)
    if weight not in tensors:
        return f"its weight {weight!r} is computed in the graph, not a stored tensor"
    if tensors[weight].dtype != torch.float32:
        return f"its weight {weight!r} holds {str(tensors[weight].dtype).removeprefix('torch.')}"
    users = graph.users[weight]
    if len(users) > 1:
        names = ", ".join(node.name for node in users)
        return f"its weight {weight!r} is shared by several operators ({names})"
    if users[0].inputs.count(weight) > 1:
        return f"its weight {weight!r} is also an input of the same operator"
    # A table that is looked up at stored places is worth compressing all the same.
    if facts.kind != "embedding" and (source := node.ref(0)) in tensors:
        return f"it reads the stored tensor {source!r}, so its output never changes"
    if facts.groups is not None and facts.out_axis == 1 and node.args[facts.groups] != 1:
        # Stored (in, out / groups, ...), it could be quantised with a scale per place in its group only.
        return "grouped transposed convolutions have no output axis for scales; it stays float"
    return None


def _read_layer(
    graph: Graph, tensors: Mapping[str, Tensor], node: Node, facts: LayerFacts
) -> Layer:
    weight = _weight_of(node)
    bias = None if facts.bias is None else node.args[facts.bias]
    shape = tuple(tensors[weight].shape)
    return Layer(
        name=_module_path(weight),
        node=node.name,
        kind=facts.kind,
        weight=weight,
        bias=bias.name if isinstance(bias, Ref) and bias.name in tensors else None,
        weight_shape=shape,
        out_axis=facts.out_axis,
        in_axis=facts.in_axis,
        groups=1 if facts.groups is None else node.args[facts.groups],
        macs=_macs(graph, node, facts, shape),
        finds_range=_finds_range(graph, node, facts),
    )


def _finds_range(graph: Graph, node: Node, facts: LayerFacts) -> bool:
    """ONNX Runtime 1.31 has such kernels for linear layers and LSTMs, for no other recurrent layer."""
    if node.op == GATES:
        return all(user.op == LSTM for user in graph.users[node.name])
    return node.op == LSTM or facts.kind == "linear"


def _macs(graph: Graph, node: Node, facts: LayerFacts, weight_shape: tuple[int, ...]) -> int:
    """Multiply-accumulates of one call; an embedding only reads."""
    if facts.kind == "embedding":
        return 0
    # Each input of a transposed convolution meets the weight, and each gate its state's; of the others
    # each output.
    reads = facts.out_axis == 1 or facts.kind == "recurrent"
    met = graph.shape_of(node.ref(0)) if reads else node.shape
    return math.prod(met) * math.prod(weight_shape[1:])


def _module_path(tensor: str) -> str:
    return tensor.removesuffix(".weight")
