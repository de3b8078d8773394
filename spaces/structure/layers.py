"""Finds the layers of a captured graph: stored weights with an axis over the outputs, and their calls.

A weight that several operators read is one layer, whatever the reason: a module that runs twice, a cell
that is called step by step, a table of tokens that the output layer reads too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from paredown.spaces.capture.capturing import Captured
from paredown.spaces.graph.facts import LayerFacts
from paredown.spaces.graph.graph import Graph, Node, Ref
from paredown.spaces.graph.names import LINEAR
from paredown.spaces.graph.recurrent import GATES, LSTM
from paredown.spaces.structure.model_map import Layer, LeftOut


def read_layers(captured: Captured) -> tuple[tuple[Layer, ...], tuple[LeftOut, ...]]:
    """Layers in execution order, and the weights that belong to none, with the reason."""
    graph, tensors = captured.graph, captured.tensors
    layers: list[Layer] = []
    left_out: dict[str, LeftOut] = {}
    for weight, users in _users_of_weights(graph).items():
        reason = _obstacle(graph, tensors, weight, users)
        if reason is None:
            layers.append(_read_layer(graph, tensors, weight, users))
        else:
            what = _module_path(weight) if weight in tensors else users[0].name
            left_out[what] = LeftOut(what=what, reason=reason)
    weights = {layer.weight for layer in layers}
    for name in graph.tensor_names():
        what = _module_path(name)
        if tensors[name].ndim >= 2 and name not in weights and what not in left_out:
            ops = ", ".join(dict.fromkeys(node.op for node in graph.users[name]))
            left_out[what] = LeftOut(what=what, reason=f"{name} is read by {ops}, not by a layer")
    return tuple(layers), tuple(left_out.values())


def _users_of_weights(graph: Graph) -> Mapping[str, list[Node]]:
    """The operators that a layer can be made of, by the name of their weight."""
    found: dict[str, list[Node]] = {}
    for node in graph.nodes:
        if node.facts.layer is not None:
            assert node.facts.weight is not None
            found.setdefault(node.ref(node.facts.weight), []).append(node)
    return found


def _facts(node: Node) -> LayerFacts:
    assert node.facts.layer is not None
    return node.facts.layer


def _is_lookup(node: Node) -> bool:
    return _facts(node).kind == "embedding"


def _calls(users: Sequence[Node]) -> list[Node]:
    """The users without look-ups, unless there is nothing else."""
    return [node for node in users if not _is_lookup(node)] or list(users)


def _obstacle(
    graph: Graph, tensors: Mapping[str, Tensor], weight: str, users: Sequence[Node]
) -> str | None:
    if weight not in tensors:
        return f"its weight {weight!r} is computed in the graph, not a stored tensor"
    if tensors[weight].dtype != torch.float32:
        return f"its weight {weight!r} holds {str(tensors[weight].dtype).removeprefix('torch.')}"
    others = [node.op for node in graph.users[weight] if node not in users]
    if others:
        return f"its weight {weight!r} is also read by {', '.join(others)}"
    if any(node.inputs.count(weight) > 1 for node in users):
        return f"its weight {weight!r} is also an input of the same operator"
    calls = _calls(users)
    facts = _facts(calls[0])
    if len({(node.op, _groups(node)) for node in calls}) > 1 or (
        len(calls) < len(users) and calls[0].op != LINEAR
    ):
        names = ", ".join(node.name for node in users)
        return f"its weight {weight!r} is shared by operators of different kinds ({names})"
    # A table that is looked up at stored places is worth compressing all the same.
    if facts.kind != "embedding" and all(node.ref(0) in tensors for node in calls):
        source = calls[0].ref(0)
        return f"it reads the stored tensor {source!r}, so its output never changes"
    if facts.out_axis == 1 and _groups(calls[0]) != 1:
        # Stored (in, out / groups, ...), it could be quantised with a scale per place in its group only.
        return "grouped transposed convolutions have no output axis for scales; it stays float"
    return None


def _groups(node: Node) -> int:
    position = _facts(node).groups
    return 1 if position is None else int(node.args[position])


def _read_layer(
    graph: Graph, tensors: Mapping[str, Tensor], weight: str, users: Sequence[Node]
) -> Layer:
    calls = _calls(users)
    facts = _facts(calls[0])
    shape = tuple(tensors[weight].shape)
    return Layer(
        name=_module_path(weight),
        nodes=tuple(node.name for node in calls),
        kind=facts.kind,
        weight=weight,
        bias=_bias(graph, tensors, calls),
        weight_shape=shape,
        out_axis=facts.out_axis,
        in_axis=facts.in_axis,
        groups=_groups(calls[0]),
        macs=sum(_macs(graph, node, facts, shape) for node in calls),
        finds_range=all(_finds_range(graph, node, facts) for node in calls),
        lookups=tuple(node.name for node in users if node not in calls),
    )


def _bias(graph: Graph, tensors: Mapping[str, Tensor], calls: Sequence[Node]) -> str | None:
    """The stored bias that all calls read, and nothing else does."""
    position = _facts(calls[0]).bias
    biases = [None if position is None else node.args[position] for node in calls]
    first = biases[0]
    if not isinstance(first, Ref) or first.name not in tensors:
        return None
    is_own = all(bias == first for bias in biases) and len(graph.users[first.name]) == len(calls)
    return first.name if is_own else None


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
