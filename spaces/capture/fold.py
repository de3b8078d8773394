"""Folds batch norms into the layers before them, and the two biases of recurrent layers into one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from paredown.spaces.graph.facts import LayerFacts
from paredown.spaces.graph.graph import Graph, Node, Ref, rename_value
from paredown.spaces.graph.names import BATCH_NORM
from paredown.spaces.graph.recurrent import GRU, WEIGHT_ARG

NORM = "aten._native_batch_norm_legit_no_training.default"
"""How torch.export writes a batch norm in eval mode: three outputs, of which one is used."""


def fold_norms(
    graph: Graph, tensors: Mapping[str, Tensor]
) -> tuple[Graph, dict[str, Tensor], dict[str, tuple[Tensor, Tensor]]]:
    """Batch norms folded into the layer before them; the others become one single-output node.

    Returns:
        The graph, its tensors, and by weight name the standard deviation and mean, each (out,),
        that the folded layer's output had in training.
    """
    tensors = dict(tensors)
    folded: dict[str, tuple[Tensor, Tensor]] = {}
    nodes: dict[str, Node] = {node.name: node for node in graph.nodes}
    for name in [node.name for node in graph.nodes if node.op == NORM]:
        (picked,) = graph.users[name]  # getitem 0; the saved statistics are empty
        node = nodes.pop(name)  # not from the graph: the norm before it may have renamed its input
        source, layer = node.args[0].name, nodes.get(node.args[0].name)
        norm = _norm_tensors(node, tensors)
        if layer is not None and _can_fold(graph, nodes, layer):
            nodes.pop(picked.name)
            nodes[source] = _fold(layer, norm, node.args[6], tensors, folded)
            nodes = _rename_everywhere(nodes, picked.name, source)
            graph = replace(
                graph, outputs=tuple(source if o == picked.name else o for o in graph.outputs)
            )
        else:
            args = (*node.args[:5], False, node.args[5], node.args[6], False)
            nodes[picked.name] = Node(name=picked.name, op=BATCH_NORM, args=args, shape=())
    return replace(graph, nodes=tuple(nodes.values())), tensors, folded


def fold_biases(graph: Graph, tensors: Mapping[str, Tensor]) -> tuple[Graph, dict[str, Tensor]]:
    """The second bias of recurrent layers added to the first, with which it is only summed up.

    A GRU keeps both, for its reset gate acts on the second alone, and so does a layer whose biases other
    layers read in other pairs.
    """
    tensors = dict(tensors)
    nodes = dict(graph.by_name)
    pairs: dict[tuple[str, str], list[str]] = {}
    for node in graph.nodes:
        if node.op in WEIGHT_ARG and node.op != GRU:
            first, second = nodes[node.ref(0)].args[2], node.args[WEIGHT_ARG[node.op] + 1]
            if first is not None and second is not None:
                pairs.setdefault((first.name, second.name), []).append(node.name)
    for (first_name, second_name), steps in pairs.items():
        readers = [graph.users[name] for name in (first_name, second_name)]
        if any(len(each) != len(steps) for each in readers):
            continue
        tensors[first_name] = tensors[first_name] + tensors[second_name]
        for name in steps:
            nodes[name] = nodes[name].with_arg(WEIGHT_ARG[nodes[name].op] + 1, None)
    return replace(graph, nodes=tuple(nodes.values())), tensors


def _can_fold(graph: Graph, nodes: Mapping[str, Node], layer: Node) -> bool:
    """Whether the norm, already taken out of `nodes`, was all that read the layer's output."""
    facts = None if layer.op == NORM else layer.facts.layer
    if facts is None or facts.bias is None or layer.name in graph.outputs:
        return False
    if any(layer.name in node.inputs for node in nodes.values()):
        return False
    if facts.channel_dim % len(layer.shape) != 1:
        return False  # the norm works along dimension 1, the layer along another one
    if facts.out_axis == 1 and facts.groups is not None and layer.args[facts.groups] != 1:
        return False  # each group has outputs of its own
    weight = layer.args[1].name
    return weight not in graph.values and len(graph.users[weight]) == 1


def _layer_of(node: Node) -> LayerFacts:
    facts = node.facts.layer
    assert facts is not None
    return facts


def _norm_tensors(node: Node, tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    mean, variance = tensors[node.args[3].name], tensors[node.args[4].name]
    gamma = tensors[node.args[1].name] if node.args[1] is not None else torch.ones_like(mean)
    beta = tensors[node.args[2].name] if node.args[2] is not None else torch.zeros_like(mean)
    return gamma, beta, mean, variance


def _fold(
    layer: Node,
    norm: tuple[Tensor, Tensor, Tensor, Tensor],
    epsilon: float,
    tensors: dict[str, Tensor],
    folded: dict[str, tuple[Tensor, Tensor]],
) -> Node:
    gamma, beta, mean, variance = (t.double() for t in norm)
    weight_name = layer.args[1].name
    weight = tensors[weight_name]
    factor = gamma / torch.sqrt(variance + epsilon)
    shape = [1] * weight.ndim
    shape[_layer_of(layer).out_axis] = -1
    tensors[weight_name] = (weight.double() * factor.view(shape)).to(weight.dtype)
    bias = tensors[layer.args[2].name].double() if layer.args[2] is not None else 0.0
    bias_name = layer.args[2].name if layer.args[2] is not None else _bias_name(weight_name)
    tensors[bias_name] = (beta + (bias - mean) * factor).to(weight.dtype)
    spread = gamma.abs() * torch.sqrt(variance / (variance + epsilon))
    folded[weight_name] = (spread.to(weight.dtype), beta.to(weight.dtype))
    return layer.with_arg(2, Ref(bias_name))


def _bias_name(weight_name: str) -> str:
    return weight_name.removesuffix("weight") + "bias"


def _rename_everywhere(nodes: dict[str, Node], old: str, new: str) -> dict[str, Node]:
    return {
        name: replace(n, args=rename_value(n.args, old, new)) if old in n.inputs else n
        for name, n in nodes.items()
    }
