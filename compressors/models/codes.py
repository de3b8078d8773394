"""Which values of a graph hold 8-bit codes, and how quantisation is arranged so that kernels fuse.

Layout-only operators and max pools commute with rounding to codes: they move values, never change
them. So they run on the codes themselves, with the scale and zero point of their input.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from paredown.compressors.rounding.quantize import nearest_codes_
from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.storage.stored import StoredTensor
from paredown.spaces.candidates.blueprint import Operator
from paredown.spaces.graph.functions import GETITEM, QDQ
from paredown.spaces.graph.graph import Graph, Node, Ref, rename_value
from paredown.spaces.structure.code_kernels import clamps_codes, keeps_floats

_INT32_ROOM = 2.0**30
"""Largest bias in units of s_x * s_w: half the int32 range, the rest is for the products."""


def is_layout(node: Node) -> bool:
    """Whether the node only moves its first input's values; a pad may add nothing but zeros."""
    facts = node.facts
    return facts.moves_data and not (facts.fill is not None and node.args[facts.fill])


def codes_source(graph: Graph, value: str) -> Node | None:
    """The QDQ node whose codes the value holds, seen through layouts; None for floats."""
    node = graph.by_name.get(value)
    while node is not None and is_layout(node):
        node = graph.by_name.get(node.args[0].name)
    return node if node is not None and node.op == QDQ else None


def ends_in_codes(graph: Graph, node: Node) -> bool:
    """Whether the node's result is wanted as codes alone, behind its clamp if it has one."""
    users = graph.users.get(node.name, ())
    if node.name in graph.outputs or len(users) != 1:
        return False
    if clamps_codes(users[0]):
        return ends_in_codes(graph, users[0])
    return users[0].op == QDQ


def gives_activated_floats(graph: Graph, node: Node) -> bool:
    """Whether a linear layer runs in floats for the activation behind it, see `keeps_floats`."""
    users = graph.users.get(node.name, ())
    is_alone = len(users) == 1 and node.name not in graph.outputs
    return is_alone and keeps_floats(node, users[0]) and not ends_in_codes(graph, node)


def arrange(graph: Graph) -> Graph:
    """The same function with every QDQ node above the layout-only operators it followed.

    A layer's output then meets its QDQ node at once, which is what runtimes fuse; QDQ nodes that
    read the same value with the same parameters become one.
    """
    moved = True
    while moved:
        moved = False
        for node in graph.nodes:
            if node.op == QDQ and _can_move_up(graph, node):
                graph = _move_up(graph, node)
                moved = True
                break
    return _merge_equal(graph)


def fit_biases(model: CompressedModel) -> CompressedModel:
    """The model with biases as whole int32 units, and weight scales that leave them room.

    Beside 8-bit inputs a bias is held as int32 in units of s_x * s_w, by file or runtime. In a
    channel whose weights are almost zero that unit can be so small that the bias is clipped, and
    silently. Its scale is raised until the bias takes half the range; the codes follow, and what a
    product loses is at most 255 * 2**-31 of the bias; at 1 bit codes stay, and it is twice that. A
    channel without any weight has a scale of no meaning, in whose unit the bias may round to nothing: it
    gets the finest one. Biases are then rounded to their units here, as the file does: half a unit is
    what tips one code in some hundred.
    """
    stored = dict(model.stored)
    graph = model.blueprint.graph
    met = [
        (operator.weight, bias, scale)
        for operator in model.blueprint.operators
        if (scale := _input_scale(model, operator)) is not None
        and (bias := _bias(graph.by_name[operator.node])) in stored
    ]
    for weight, bias, scale in met:
        stored[weight] = _fitted(stored[weight], stored[bias], scale)
    for weight, bias, scale in met:
        # Several calls have several units: the file then holds the bias in each of them.
        if len(graph.users[bias]) == 1:
            stored[bias] = _in_units(stored[bias], stored[weight], scale)
    return replace(model, stored=stored)


def _bias(node: Node) -> str:
    """The name of what the layer adds; "" where it is nothing."""
    assert node.facts.layer is not None
    position = node.facts.layer.bias
    bias = None if position is None else node.args[position]
    return bias.name if isinstance(bias, Ref) else ""


def _input_scale(model: CompressedModel, operator: Operator) -> float | None:
    graph = model.blueprint.graph
    if not model.blueprint.storage[operator.weight].fits_integer_kernels:
        return None
    source = codes_source(graph, graph.by_name[operator.node].args[0].name)
    return None if source is None else float(source.args[1])


def _fitted(weight: StoredTensor, bias: StoredTensor, input_scale: float) -> StoredTensor:
    if weight.scale is None or weight.scale.numel() != bias.values.numel():
        return weight
    floor = bias.dense().abs() / (input_scale * _INT32_ROOM)
    rows = weight.values.movedim(weight.storage.axis, 0).flatten(1)
    is_empty = (rows == 0).all(dim=1) & (floor > 0)
    if bool((weight.scale >= floor).all()) and not bool(is_empty.any()):
        return weight
    scale = torch.where(is_empty, floor, weight.scale.maximum(floor))
    shape = [1] * weight.values.ndim
    shape[weight.storage.axis] = -1
    ratio = (weight.scale / scale).view(shape)
    codes = nearest_codes_(weight.values * ratio, weight.storage.bits)
    return replace(weight, values=codes.to(weight.values.dtype), scale=scale)


def _in_units(bias: StoredTensor, weight: StoredTensor, input_scale: float) -> StoredTensor:
    """The bias rounded to whole units of input scale times weight scale."""
    if weight.scale is None or weight.scale.numel() != bias.values.numel():
        return bias
    unit = weight.scale.double() * input_scale
    return StoredTensor.of_floats((bias.dense().double() / unit).round() * unit)


def _can_move_up(graph: Graph, node: Node) -> bool:
    producer = graph.by_name.get(node.args[0].name)
    if producer is None or not is_layout(producer) or producer.name in graph.outputs:
        return False
    if codes_source(graph, producer.name) is not None:
        return False  # the layout works on codes already
    if producer.op == GETITEM or producer.facts.has_several_outputs:
        return False
    source = producer.args[0]
    return isinstance(source, Ref) and len(graph.users[producer.name]) == 1


def _move_up(graph: Graph, node: Node) -> Graph:
    producer = graph.by_name[node.args[0].name]
    source = producer.args[0]
    above = replace(node, args=(source, *node.args[1:]), shape=graph.shape_of(source.name))
    below = replace(producer, args=(Ref(node.name), *producer.args[1:]))
    nodes: list[Node] = []
    for other in graph.nodes:
        if other.name == producer.name:
            nodes += [above, below]
        elif other.name != node.name:
            nodes.append(_renamed(other, node.name, producer.name))
    outputs = tuple(producer.name if name == node.name else name for name in graph.outputs)
    return replace(graph, nodes=tuple(nodes), outputs=outputs)


def _merge_equal(graph: Graph) -> Graph:
    first: dict[tuple[object, ...], str] = {}
    stands_for: dict[str, str] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        for old in set(node.inputs) & stands_for.keys():
            node = _renamed(node, old, stands_for[old])
        if node.op == QDQ and first.setdefault(node.args, node.name) != node.name:
            stands_for[node.name] = first[node.args]
        else:
            nodes.append(node)
    outputs = tuple(stands_for.get(name, name) for name in graph.outputs)
    return replace(graph, nodes=tuple(nodes), outputs=outputs)


def _renamed(node: Node, old: str, new: str) -> Node:
    return replace(node, args=rename_value(node.args, old, new)) if old in node.inputs else node
