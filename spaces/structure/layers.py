"""Finds the layers of a captured graph: operators whose own weight has an axis over the outputs."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from paredown.spaces.graph.capturing import Captured
from paredown.spaces.graph.graph import Graph, Node, Ref
from paredown.spaces.structure.model_map import Layer, LeftOut

_KINDS: Mapping[str, str] = {
    "aten.conv1d.default": "conv1d",
    "aten.conv1d.padding": "conv1d",
    "aten.conv2d.default": "conv2d",
    "aten.conv2d.padding": "conv2d",
    "aten.conv_transpose1d.default": "conv_transpose1d",
    "aten.conv_transpose2d.input": "conv_transpose2d",
    "aten.linear.default": "linear",
    "aten.embedding.default": "embedding",
}
# Position of `groups` in the arguments of every convolution, transposed ones included.
GROUPS_ARG = 6


def read_layers(captured: Captured) -> tuple[tuple[Layer, ...], tuple[LeftOut, ...]]:
    """Layers in execution order, and the weights that belong to none, with the reason."""
    graph, tensors = captured.graph, captured.tensors
    layers: list[Layer] = []
    left_out: dict[str, LeftOut] = {}
    for node in graph.nodes:
        if node.op not in _KINDS:
            continue
        weight = _weight_ref(node)
        reason = _obstacle(graph, tensors, node, weight)
        if reason is None:
            layers.append(_read_layer(graph, tensors, node))
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


def _weight_ref(node: Node) -> str:
    # Embedding takes the weight first, every other layer second.
    ref = node.args[0 if _KINDS[node.op] == "embedding" else 1]
    assert isinstance(ref, Ref)
    return ref.name


def _obstacle(graph: Graph, tensors: Mapping[str, Tensor], node: Node, weight: str) -> str | None:
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
    if _KINDS[node.op] != "embedding" and node.args[0].name in tensors:
        return f"it reads the stored tensor {node.args[0].name!r}, so its output never changes"
    if _KINDS[node.op].startswith("conv_transpose") and node.args[GROUPS_ARG] != 1:
        # Stored (in, out / groups, ...), it could be quantised with a scale per place in its group only.
        return "grouped transposed convolutions have no output axis for scales; it stays float"
    return None


def _read_layer(graph: Graph, tensors: Mapping[str, Tensor], node: Node) -> Layer:
    kind, weight = _KINDS[node.op], _weight_ref(node)
    bias = node.args[2] if kind != "embedding" else None
    if kind == "embedding" or kind.startswith("conv_transpose"):
        out_axis, in_axis = 1, 0
    else:
        out_axis, in_axis = 0, 1
    shape = tuple(tensors[weight].shape)
    return Layer(
        name=_module_path(weight),
        node=node.name,
        kind=kind,
        weight=weight,
        bias=bias.name if isinstance(bias, Ref) and bias.name in tensors else None,
        weight_shape=shape,
        out_axis=out_axis,
        in_axis=in_axis,
        groups=node.args[GROUPS_ARG] if kind.startswith("conv") else 1,
        macs=_macs(graph, node, kind, shape),
    )


def _macs(graph: Graph, node: Node, kind: str, weight_shape: tuple[int, ...]) -> int:
    """Multiply-accumulates of one call; an embedding only reads."""
    if kind == "embedding":
        return 0
    if kind.startswith("conv_transpose"):
        source = node.args[0].name
        return math.prod(graph.shape_of(source)) * math.prod(weight_shape[1:])
    return math.prod(node.shape) * math.prod(weight_shape[1:])


def _module_path(tensor: str) -> str:
    return tensor.removesuffix(".weight")
