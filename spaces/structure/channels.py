"""Reads channel groups off a graph: which channels of which tensors must be removed together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from paredown.spaces.capture.capturing import Captured
from paredown.spaces.channels.parts import Part, Parts
from paredown.spaces.channels.rules import RULES
from paredown.spaces.channels.ties import Layout, Ties
from paredown.spaces.graph.graph import Node
from paredown.spaces.structure.model_map import ChannelGroup, Layer, LeftOut


@dataclass(frozen=True, kw_only=True)
class Channels:
    """Groups, and all dimensions of tensors and values they touch, before verification."""

    groups: tuple[ChannelGroup, ...]
    tensor_parts: Mapping[tuple[str, int], Parts]
    value_parts: Mapping[str, tuple[int, Parts]]
    left_out: tuple[LeftOut, ...]


def read_channels(captured: Captured, layers: tuple[Layer, ...]) -> Channels:
    """Channel groups of the graph; groups that cannot shrink are left out with the reason."""
    graph = captured.graph
    ties = Ties(graph, captured.tensors)
    layer_of = {name: layer for layer in layers for name in (*layer.nodes, *layer.lookups)}
    for node in graph.nodes:
        layout = _layout(ties, node, layer_of.get(node.name))
        if layout is not None:
            ties.layouts[node.name] = layout
    for output in graph.outputs:
        ties.freeze_value(output, "feeds the model's output")
    return _collect(ties, layers)


def _layout(ties: Ties, node: Node, layer: Layer | None) -> Layout | None:
    rule = node.facts.channels
    if layer is not None and rule is None:
        return _layer_layout(ties, node, layer)
    if rule is None:
        return ties.block(node, "has no rule for channels")
    return RULES[rule.name](ties, node, *rule.numbers)


def _layer_layout(ties: Ties, node: Node, layer: Layer) -> Layout | None:
    facts = node.facts.layer
    assert facts is not None
    if layer.lookups:
        _freeze_table(ties, layer)
    if node.name in layer.lookups:
        return None
    dim = facts.channel_dim % len(node.shape)
    source = ties.layouts.get(node.inputs[0])
    if source is not None and source.dim != dim:
        return ties.block(node, "works along another dimension than the channels")
    if layer.groups > 1:
        return _grouped_layout(ties, node, layer, source)
    if source is not None:
        ties.note_tensor(layer.weight, layer.in_axis, source.parts)
    elif layer.is_shared:
        _freeze_axis(ties, layer, layer.in_axis)
    # What an earlier call of a shared weight has made of its channels holds for this one too.
    parts = ties.tensor_parts.get((layer.weight, layer.out_axis), ())
    if not _is_open(parts):
        parts = (Part(layer.name, node.shape[dim]),)
    ties.open(layer.name)
    ties.note_tensor(layer.weight, layer.out_axis, parts)
    if layer.bias is not None:
        ties.note_tensor(layer.bias, 0, parts)
    if node.shape[dim] == 1:
        # Without a layout it broadcasts freely against the channels of others.
        ties.freeze(parts, "has a single channel")
        return None
    return Layout(dim, parts)


def _grouped_layout(ties: Ties, node: Node, layer: Layer, source: Layout | None) -> Layout | None:
    """A depthwise layer passes its input's channels on; any other grouping freezes both sides."""
    if source is None:
        if layer.is_shared:
            _freeze_axis(ties, layer, 0)
        return None
    if not layer.groups == node.shape[1] == source.size:
        return ties.block(node, f"convolves in {layer.groups} groups of channels")
    ties.note_tensor(layer.weight, 0, source.parts)
    if layer.bias is not None:
        ties.note_tensor(layer.bias, 0, source.parts)
    return source


def _freeze_axis(ties: Ties, layer: Layer, axis: int) -> None:
    """Keeps whole what the weight's other calls read or give along this axis."""
    ties.note_tensor(layer.weight, axis, (Part(None, layer.weight_shape[axis]),))


def _freeze_table(ties: Ties, layer: Layer) -> None:
    """Every token stays, and the width at which tokens are looked up is that of what is read."""
    for axis in (layer.out_axis, layer.in_axis):
        _freeze_axis(ties, layer, axis)


def _collect(ties: Ties, layers: tuple[Layer, ...]) -> Channels:
    tensor_parts = {
        key: parts
        for key, old in ties.tensor_parts.items()
        if _is_open(parts := ties.settled(old))
    }
    value_parts = {
        name: (layout.dim, parts)
        for name, layout in ties.layouts.items()
        if _is_open(parts := ties.settled(layout.parts))
        # An operator with several outputs has no shape of its own; its picks have.
        and ties.graph.shape_of(name) != ()
    }
    groups: list[ChannelGroup] = []
    left_out: list[LeftOut] = []
    for name, members in ties.members().items():
        reason = ties.reason(name)
        if reason is None:
            groups.append(_group(name, tensor_parts, layers))
        else:
            left_out.append(LeftOut(what=f"channels of {', '.join(members)}", reason=reason))
    return Channels(
        groups=tuple(groups),
        tensor_parts=tensor_parts,
        value_parts=value_parts,
        left_out=tuple(left_out),
    )


def _is_open(parts: Parts) -> bool:
    return any(part.group is not None for part in parts)


def _group(
    name: str, tensor_parts: Mapping[tuple[str, int], Parts], layers: tuple[Layer, ...]
) -> ChannelGroup:
    def _holds(key: tuple[str, int]) -> bool:
        return any(part.group == name for part in tensor_parts.get(key, ()))

    def _out_axis(layer: Layer) -> int:
        # A depthwise weight holds its channels in dimension 0, transposed or not.
        return 0 if layer.groups > 1 else layer.out_axis

    producers = tuple(x.name for x in layers if _holds((x.weight, _out_axis(x))))
    consumers = tuple(x.name for x in layers if x.groups == 1 and _holds((x.weight, x.in_axis)))
    first = next(x for x in layers if x.name == producers[0])
    part = next(
        part for part in tensor_parts[(first.weight, _out_axis(first))] if part.group == name
    )
    return ChannelGroup(
        name=name,
        channels=part.channels,
        producers=producers,
        consumers=consumers,
        entries=part.repeat,
    )
