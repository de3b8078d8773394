"""From a compressed model to a lean ONNX model: short names, no documentation, no inner shapes."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import replace

import onnx
from onnx import AttributeProto, TensorProto

from paredown.compressors.models.codes import arrange, fit_biases
from paredown.compressors.onnx.arithmetic import ARITHMETIC, Lowering, lower_renamed
from paredown.compressors.onnx.emitter import Emitter
from paredown.compressors.onnx.layers import LAYERS
from paredown.compressors.onnx.layouts import LAYOUTS
from paredown.compressors.onnx.library import by_library
from paredown.compressors.onnx.logic import LOGIC
from paredown.compressors.onnx.plan import (
    PRODUCER,
    Attribute,
    ExportError,
    Initialiser,
    OnnxNode,
    Plan,
    PlanBuilder,
    Value,
    onnx_type,
)
from paredown.compressors.onnx.pools import POOLS
from paredown.compressors.onnx.recurrent import RECURRENT
from paredown.compressors.storage.compressed import CompressedModel
from paredown.spaces.candidates.blueprint import Blueprint
from paredown.spaces.graph.facts import LIBRARY, OnnxRename
from paredown.spaces.graph.graph import Graph, Ref
from paredown.spaces.graph.operators import OPERATORS

LOWERINGS: Mapping[str, Lowering] = (
    ARITHMETIC | POOLS | LAYOUTS | LAYERS | RECURRENT | LOGIC | {LIBRARY: by_library}
)
"""Lowerings by the names that the table of operators gives them."""


def lowering_of(op: str) -> Lowering | None:
    """How an operator is written to ONNX, None where it cannot be."""
    onnx_form = OPERATORS[op].onnx if op in OPERATORS else None
    if isinstance(onnx_form, OnnxRename):
        return functools.partial(lower_renamed, onnx_form)
    return None if onnx_form is None else LOWERINGS[onnx_form]


def unsupported_operators(graph: Graph) -> tuple[str, ...]:
    """Operators of the graph that cannot be written to ONNX, each once."""
    return tuple(dict.fromkeys(n.op for n in graph.nodes if lowering_of(n.op) is None))


def output_names(graph: Graph) -> tuple[str, ...]:
    """Names of the file's outputs: "output", of a tuple "output_0" and on, of a dict its keys."""
    names = []
    for key in graph.output_keys:
        name = "output" if key == "" else f"output_{key}" if key[0].isdigit() else key
        names.append(f"{name}_out" if name in graph.inputs else name)
    return tuple(names)


def plan_of(blueprint: Blueprint) -> Plan:
    """The structure of the blueprint's ONNX file.

    Raises:
        ExportError: An operator, or one of its arguments, has no ONNX lowering.
    """
    emitter, nodes = _emitted(blueprint)
    graph, builder = emitter.graph, emitter.plan
    return Plan(
        nodes=nodes,
        initialisers=tuple(builder.initialisers),
        inputs=tuple(
            Value(n, onnx_type(d), emitter.sizes.input_dims(n))
            for n, d in zip(graph.inputs, graph.input_dtypes, strict=True)
        ),
        outputs=tuple(
            Value(n, onnx_type(graph.dtype_of(v)), emitter.sizes.output_dims(v, blueprint.storage))
            for n, v in zip(output_names(graph), graph.outputs, strict=True)
        ),
        usual_sizes=tuple(sorted((axis, graph.axes[axis]) for axis in graph.free)),
    )


def traced_names(blueprint: Blueprint, names: Iterable[str]) -> Mapping[str, frozenset[str]]:
    """Where values and tensors of the arranged graph are found in the ONNX file, by name.

    Raises:
        ExportError: An operator, or one of its arguments, has no ONNX lowering.
    """
    emitter, _ = _emitted(blueprint)
    return {name: emitter.names(name) for name in names}


def _emitted(blueprint: Blueprint) -> tuple[Emitter, tuple[OnnxNode, ...]]:
    """The graph lowered node by node, and its nodes with outputs under their public names."""
    missing = unsupported_operators(blueprint.graph)
    if missing:
        raise ExportError(
            f"no ONNX lowering for {', '.join(missing)}; write the model with other operators"
        )
    graph = arrange(blueprint.graph)
    names = output_names(graph)
    builder = PlanBuilder(taken=frozenset((*graph.inputs, *names)))
    emitter = Emitter(graph=graph, storage=blueprint.storage, plan=builder)
    for name in graph.inputs:
        emitter.put_input(name)
    for node in graph.nodes:
        lowering = lowering_of(node.op)
        assert lowering is not None  # QDQ nodes alone are added by `arrange`
        lowering(emitter, node)
    return emitter, _name_outputs(emitter, names)


def lower(model: CompressedModel) -> onnx.ModelProto:
    """The ONNX model of exactly the operators and codes that `model` runs.

    Raises:
        ExportError: An operator, or one of its arguments, has no ONNX lowering.
    """
    plan = plan_of(model.blueprint)
    stored = fit_biases(model).stored
    proto = onnx.ModelProto(ir_version=plan.ir_version, producer_name=PRODUCER)
    proto.opset_import.add().version = plan.opset
    for axis, size in plan.usual_sizes:
        proto.metadata_props.add(key=axis, value=str(size))
    for domain in plan.domains:
        proto.opset_import.add(domain=domain, version=1)
    proto.graph.name = "g"
    proto.graph.node.extend(_node(n) for n in plan.nodes)
    for initialiser in plan.initialisers:
        proto.graph.initializer.append(_tensor(initialiser, initialiser.payload(stored)))
    proto.graph.input.extend(_value(v) for v in plan.inputs)
    proto.graph.output.extend(_value(v) for v in plan.outputs)
    return proto


def _name_outputs(emitter: Emitter, names: tuple[str, ...]) -> tuple[OnnxNode, ...]:
    """The nodes with outputs under their public names; what is no node's own output is copied."""
    builder = emitter.plan
    public: dict[str, str] = {}
    copies: list[OnnxNode] = []
    for value, name in zip(emitter.graph.outputs, names, strict=True):
        found = emitter.value(Ref(value))
        produced = any(found in node.outputs for node in builder.nodes)
        if produced and found not in public:
            public[found] = name
        else:
            source = public.get(found, found)
            copies.append(OnnxNode(op_type="Identity", inputs=(source,), outputs=(name,)))
    renamed = (
        node if public.keys().isdisjoint((*node.inputs, *node.outputs)) else _renamed(node, public)
        for node in builder.nodes
    )
    return (*renamed, *copies)


def _renamed(node: OnnxNode, names: Mapping[str, str]) -> OnnxNode:
    return replace(
        node,
        inputs=tuple(names.get(n, n) for n in node.inputs),
        outputs=tuple(names.get(n, n) for n in node.outputs),
    )


def _node(node: OnnxNode) -> onnx.NodeProto:
    proto = onnx.NodeProto(op_type=node.op_type, input=node.inputs, output=node.outputs)
    if node.domain:
        proto.domain = node.domain
    proto.attribute.extend(_attribute(name, value) for name, value in node.attributes)
    return proto


def _attribute(name: str, value: Attribute) -> onnx.AttributeProto:
    if isinstance(value, tuple) and value and isinstance(value[0], str):
        texts = [str(v).encode() for v in value]
        return AttributeProto(name=name, type=AttributeProto.STRINGS, strings=texts)
    if isinstance(value, tuple):
        return AttributeProto(name=name, type=AttributeProto.INTS, ints=value)
    if isinstance(value, str):
        return AttributeProto(name=name, type=AttributeProto.STRING, s=value.encode())
    if isinstance(value, float):
        return AttributeProto(name=name, type=AttributeProto.FLOAT, f=value)
    return AttributeProto(name=name, type=AttributeProto.INT, i=value)


def _tensor(initialiser: Initialiser, payload: bytes) -> onnx.TensorProto:
    if len(payload) != initialiser.payload_bytes:
        raise ExportError(
            f"a tensor of {initialiser.dims} has {len(payload)} bytes where its storage claims "
            f"{initialiser.payload_bytes}"
        )
    return TensorProto(
        name=initialiser.name,
        data_type=initialiser.data_type,
        dims=initialiser.dims,
        raw_data=payload,
    )


def _value(value: Value) -> onnx.ValueInfoProto:
    proto = onnx.ValueInfoProto(name=value.name)
    tensor = proto.type.tensor_type
    tensor.elem_type = value.data_type
    for size in value.dims:
        dim = tensor.shape.dim.add()
        if isinstance(size, str):
            dim.dim_param = size
        else:
            dim.dim_value = size
    tensor.shape.SetInParent()  # a scalar has an empty shape, not an unknown one
    return proto
