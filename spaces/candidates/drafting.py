"""Drafts the blueprint of a candidate: every change of structure, no tensor touched.

In this order: blocks dropped, channels narrowed, layers factorised, storage chosen, 8-bit
values marked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from paredown.spaces.candidates import zeros
from paredown.spaces.candidates.blueprint import Blueprint, Index, OnnxType, Operator, Storage
from paredown.spaces.candidates.candidate import Candidate, LayerChoice, SegmentChoice
from paredown.spaces.candidates.factors import (
    Chain,
    factor_chain,
    factor_weight,
    inner_node,
    outer_node,
    split_node,
)
from paredown.spaces.candidates.scale_groups import GROUPED_KINDS, effective_size
from paredown.spaces.candidates.zeros import Pattern
from paredown.spaces.graph.graph import Graph, Node, prune_dead, rename_value
from paredown.spaces.graph.names import RELU
from paredown.spaces.structure.blocks import bypass_blocks
from paredown.spaces.structure.dynamic_values import FIRST, mark_dynamic
from paredown.spaces.structure.model_map import Layer, ModelMap
from paredown.spaces.structure.quantized_values import Parameters, mark_quantized
from paredown.spaces.structure.slicing import narrow_graph, narrowed_size

_INDICES: Mapping[Pattern, tuple[Index, ...]] = {
    "element": ("bitmap", "csr"),
    "2:4": ("2:4",),
    "block": ("block",),
}
"""Ways to say where a pattern's kept weights lie; which is smallest follows from the counts."""


def draft(
    model_map: ModelMap, candidate: Candidate, parameters: Parameters | None = None
) -> Blueprint:
    """The structure of `candidate`.

    Args:
        model_map: What was read off the model.
        candidate: A setting of this model's knobs; names it does not know are an error of the caller.
        parameters: Codes of 8-bit values; without them the blueprint can be priced, not run.
    """
    graph = _drop_blocks(model_map, candidate)
    widths = dict(candidate.widths)
    graph = narrow_graph(model_map, graph, widths)
    shapes = _tensor_shapes(model_map, widths)
    present = {node.name for node in graph.nodes}
    operators: dict[str, tuple[Operator, ...]] = {}
    storage: dict[str, Storage] = {}
    for layer in model_map.layers:
        if not (nodes := [name for name in layer.nodes if name in present]):
            continue
        choice = candidate.layer(layer.name)
        segment = candidate.segment(model_map.segment_of_node[layer.node])
        segment = segment.of_layer(finds_range(model_map, layer, candidate), choice.weight_bits)
        shape = shapes(layer.weight, layer.weight_shape)
        chain = factor_chain(layer, shape, choice.rank)
        if len(chain) > 1:
            graph = _split(graph, layer, chain)
        calls = {name: _operators(layer, name, segment, chain) for name in nodes}
        operators |= calls | {name: _lookup(layer, name) for name in layer.lookups}
        for operator, link in zip(calls[nodes[0]], chain, strict=True):
            storage[operator.weight] = _weight_storage(layer, choice, segment, link.shape)
    graph = mark_quantized(
        graph,
        lambda name: _is_static(model_map, candidate, name),
        parameters,
        model_map.masked,
    )
    ordered = tuple(op for node in graph.nodes for op in operators.get(node.name, ()))
    dynamic = (op.node for op in ordered if op.ranges == "dynamic")
    places = model_map.batch_places
    graph = mark_dynamic(graph, {name: places.get(outer_node(name), FIRST) for name in dynamic})
    for name in graph.tensor_names():
        if name not in storage:
            shape = shapes(name, model_map.tensor_shapes[name])
            dtype = model_map.tensor_dtypes.get(name, "float32")
            storage[name] = Storage(shape=shape, kept=_count(shape), dtype=dtype)
    return Blueprint(graph=graph, operators=ordered, storage=storage)


def finds_range(model_map: ModelMap, layer: Layer, candidate: Candidate) -> bool:
    """Whether a kernel finds the range of what the layer reads in every run, its weights being codes.

    Of a recurrent layer both matrices must be.
    """
    partner = model_map.partners.get(layer.name)
    return layer.finds_range and (partner is None or candidate.layer(partner).weight_bits < 32)


def _drop_blocks(model_map: ModelMap, candidate: Candidate) -> Graph:
    dropped = [block for block in model_map.blocks if block.name in candidate.dropped]
    if not dropped:
        return model_map.graph
    return prune_dead(_merge_rectifiers(bypass_blocks(model_map.graph, dropped)))


def _merge_rectifiers(graph: Graph) -> Graph:
    """The graph without ReLUs of ReLUs, which bypassed blocks leave behind."""
    merged: dict[str, str] = {}
    for node in graph.nodes:
        source = graph.by_name.get(node.inputs[0]) if node.op == RELU else None
        if source is not None and source.op == RELU:
            merged[node.name] = merged.get(source.name, source.name)
    for old, new in merged.items():
        nodes = (replace(n, args=rename_value(n.args, old, new)) for n in graph.nodes)
        outputs = tuple(new if o == old else o for o in graph.outputs)
        graph = replace(graph, nodes=tuple(nodes), outputs=outputs)
    return graph


class _tensor_shapes:
    """Shape of each tensor after narrowing."""

    def __init__(self, model_map: ModelMap, widths: Mapping[str, int]) -> None:
        self._sizes: dict[str, dict[int, int]] = {}
        if widths:
            for (name, dim), parts in model_map.tensor_parts.items():
                self._sizes.setdefault(name, {})[dim] = narrowed_size(parts, widths)

    def __call__(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        sizes = self._sizes.get(name, {})
        return tuple(sizes.get(dim, size) for dim, size in enumerate(shape))


def _split(graph: Graph, layer: Layer, chain: Chain) -> Graph:
    """The graph with each of the layer's nodes as its chain."""
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.name in layer.nodes:
            nodes += split_node(node, graph.shape_of(node.inputs[0]), layer, chain)
        else:
            nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def _operators(
    layer: Layer, node: str, segment: SegmentChoice, chain: Chain
) -> tuple[Operator, ...]:
    """The chain of one call."""
    last = len(chain) - 1
    return tuple(
        Operator(
            node=node if part == last else inner_node(node, part),
            layer=layer.name,
            part=part,
            weight=factor_weight(layer, chain, part),
            bias=layer.bias if part == last else None,
            activation_bits=segment.activation_bits,
            ranges=segment.ranges,
        )
        for part in range(len(chain))
    )


def _lookup(layer: Layer, node: str) -> tuple[Operator, ...]:
    """A look-up in a linear layer's weight: it reads no activations, and adds no bias."""
    own = Operator(
        node=node, layer=layer.name, part=0, weight=layer.weight, bias=None, activation_bits=32
    )
    return (own,)


def _weight_storage(
    layer: Layer, choice: LayerChoice, segment: SegmentChoice, shape: tuple[int, ...]
) -> Storage:
    bits = choice.weight_bits
    dense = Storage(
        shape=shape,
        bits=bits,
        axis=layer.row_axis,
        kept=_count(shape),
        onnx_type=onnx_type(bits, segment),
        group_size=stored_group_size(layer, choice, segment, shape),
    )
    if choice.zeros.pattern == "dense" or choice.zeros.share == 0:
        return dense
    kept = kept_count(layer, choice, shape)
    sparse = (replace(dense, kept=kept, index=index) for index in _INDICES[choice.zeros.pattern])
    # An index that costs more than it saves is not written: the zeros are then stored as codes.
    return min((dense, *sparse), key=lambda storage: storage.packed_bytes)


def kept_count(layer: Layer, choice: LayerChoice, shape: tuple[int, ...]) -> int:
    """Weights that stay of a factor of this shape."""
    rows = shape[layer.row_axis]
    asked = choice.zeros
    return zeros.kept_count(rows, _count(shape) // rows, asked.share, asked.pattern)


def stored_group_size(
    layer: Layer, choice: LayerChoice, segment: SegmentChoice, shape: tuple[int, ...]
) -> int:
    """Columns that share a scale in a weight of this shape; 0 where each row has one, or none."""
    if layer.kind not in GROUPED_KINDS or choice.weight_bits == 32:
        return 0
    if segment.activation_bits == 8:
        return 0
    return effective_size(_count(shape) // shape[layer.row_axis], choice.group_size)


def onnx_type(bits: int, segment: SegmentChoice) -> OnnxType:
    """Type of the weight initialiser: the container that the segment chose."""
    if bits == 32 or (segment.container == "fast" and segment.activation_bits == 32):
        return "float32"
    if segment.container == "fast" or bits > 4:
        return "int8"
    return "int4" if bits > 2 else "int2"


def _is_static(model_map: ModelMap, candidate: Candidate, node: str) -> bool:
    """Whether the node's segment computes on codes whose ranges are known beforehand."""
    # The inner nodes of a factorised layer belong where the layer's own node does.
    name = model_map.segment_of_node.get(outer_node(node))
    segment = SegmentChoice() if name is None else candidate.segment(name)
    return segment.activation_bits == 8 and segment.ranges == "static"


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
