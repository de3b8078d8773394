"""What a device must do for a compressed model: one frozen record per operator that costs
something.

Read from a `Blueprint` alone, so a candidate is priced before any of its tensors exists.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from paredown.hardware_models.work.kinds import groups_of, weight_name
from paredown.hardware_models.work.precision import Precision, read_precision
from paredown.spaces.candidates.blueprint import Blueprint, OnnxType, Storage
from paredown.spaces.graph.facts import WorkKind
from paredown.spaces.graph.functions import GETITEM, QUANTISERS
from paredown.spaces.graph.graph import Graph, Node


@dataclass(frozen=True, kw_only=True)
class OperatorWork:
    """One operator at the graph's batch size.

    `layer` is the layer's name in the original model, "" for operators without a weight. `macs`
    are dense; `density` is the share of weights that are stored. `weight_bits` and
    `activation_bits` are what is stored and read; `integer` says whether an integer kernel runs on
    them. `fused` marks an activation or addition that runs inside the kernel before it.
    `out_spatial` counts output positions of one sample (tokens for a linear layer or an
    attention). `weight_bytes` are packed. `group_size` inputs
    of an output share a scale; 0 where all do. `sources` are the records whose results this one reads;
    graph inputs and stored tensors have none.
    """

    name: str
    kind: WorkKind
    layer: str = ""
    weight: str = ""
    macs: int = 0
    weight_bits: int = 32
    activation_bits: int = 32
    onnx_type: OnnxType = "float32"
    integer: bool = False
    fused: bool = False
    density: float = 1.0
    in_channels: int = 1
    out_channels: int = 1
    kernel_size: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    groups: int = 1
    input_elements: int = 0
    output_elements: int = 0
    weight_count: int = 0
    weight_bytes: int = 0
    group_size: int = 0
    out_spatial: int = 1
    batch: int = 1
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Work:
    """All operators of a model in execution order, at one batch size.

    `blueprint` is what they were read from, for models that export and time it; works made by
    hand have none.
    """

    operators: tuple[OperatorWork, ...]
    blueprint: Blueprint | None = field(default=None, compare=False, repr=False)

    @functools.cached_property
    def macs(self) -> int:
        """Dense multiply-accumulates."""
        return sum(op.macs for op in self.operators)

    @functools.cached_property
    def bops(self) -> int:
        """Bit operations: MACs x weight bits x activation bits."""
        return sum(op.macs * op.weight_bits * op.activation_bits for op in self.operators)

    @functools.cached_property
    def weight_count(self) -> int:
        """Weights of all layers; a weight that two layers share counts once."""
        return sum({op.weight: op.weight_count for op in self.operators}.values())


CONTAINER_BITS: dict[OnnxType, int] = {"float32": 32, "int8": 8, "int4": 4, "int2": 2}


def read_work(blueprint: Blueprint) -> Work:
    """The work of a blueprint, from its graph's shapes and its storage; no tensor is needed.

    A QDQ node costs nothing where the kernel before it writes its codes. Where codes and floats
    meet there is one record of kind "quantize" or "dequantize".

    Raises:
        GraphError: The graph holds an operator that is not in the table.
    """
    return Work(operators=tuple(_Reader(blueprint).read()), blueprint=blueprint)


class _Reader:
    """Walks a graph once; `made` maps every value to the record its data comes from."""

    def __init__(self, blueprint: Blueprint) -> None:
        self.graph: Graph = blueprint.graph
        self.storage = blueprint.storage
        self.precision: Precision = read_precision(blueprint)
        self.layers = {op.node: op.layer for op in blueprint.operators}
        self.batch = blueprint.graph.batch_size
        self.shapes = dict(zip(self.graph.inputs, self.graph.input_shapes, strict=True))
        self.shapes |= {node.name: node.shape for node in self.graph.nodes}
        self.made: dict[str, str] = {}
        self.records: list[OperatorWork] = []

    def read(self) -> list[OperatorWork]:
        """Records of all nodes in execution order."""
        for node in self.graph.nodes:
            if node.op in QUANTISERS:
                self._quantize(node)
            elif node.op == GETITEM:
                self._pass_on(node)
            else:
                self._operator(node)
        for name in self.graph.outputs:
            if name in self.precision.codes:
                self._dequantize(name, "output")
        return self.records

    def _pass_on(self, node: Node) -> None:
        source = node.args[0].name
        if source in self.made:
            self.made[node.name] = self.made[source]

    def _quantize(self, node: Node) -> None:
        source = node.args[0].name
        if self.precision.codes.get(source) == self.precision.codes[node.name]:
            self._pass_on(node)
            return
        self._edge("quantize", node.name, source)
        self.made[node.name] = node.name

    def _dequantize(self, value: str, reader: str) -> str:
        name = f"{value}.{reader}"
        self._edge("dequantize", name, value)
        return name

    def _edge(self, kind: WorkKind, name: str, source: str) -> None:
        count = math.prod(self.shapes[source])
        reads = self._sources((source,))
        if kind == "quantize" and source in self.precision.codes:  # codes of another range
            reads = (self._dequantize(source, name),)
        self.records.append(
            OperatorWork(
                name=name,
                kind=kind,
                activation_bits=8,
                input_elements=count,
                output_elements=count,
                batch=self.batch,
                sources=reads,
            )
        )

    def _sources(self, values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.made[name] for name in values if name in self.made))

    def _operator(self, node: Node) -> None:
        precision = self.precision
        inputs = precision.inputs[node.name]
        coded = bool(inputs) and all(name in precision.codes for name in inputs)
        bits = 8 if coded else 32
        sources = self._inputs(node)
        # Plain arguments until complete: making a frozen record twice would double the cost.
        facts: dict[str, Any] = {
            "name": node.name,
            "kind": precision.kinds[node.name],
            "layer": self.layers.get(node.name, ""),
            "weight_bits": bits,
            "activation_bits": bits,
            "integer": node.name in precision.integer,
            "fused": node.name in precision.fused,
            "in_channels": _channels(self.shapes[inputs[0]]) if inputs else 1,
            "out_channels": _channels(node.shape),
            "input_elements": sum(math.prod(self.shapes[name]) for name in inputs),
            "output_elements": math.prod(node.shape),
            "batch": self.batch,
            "sources": sources,
        }
        self.made[node.name] = node.name
        self.records.append(OperatorWork(**{**facts, **self._macs_and_weight(node, facts)}))

    def _inputs(self, node: Node) -> tuple[str, ...]:
        """Records the node reads; codes that meet a float kernel are dequantised on the way."""
        precision = self.precision
        sources: list[str] = []
        for name in dict.fromkeys(precision.inputs[node.name]):
            if name in precision.codes and node.name not in precision.integer:
                sources.append(self._dequantize(name, node.name))
            else:
                sources.extend(self._sources((name,)))
        return tuple(dict.fromkeys(sources))

    def _macs_and_weight(self, node: Node, facts: Mapping[str, Any]) -> Mapping[str, Any]:
        weight = weight_name(node)
        if not weight:
            tokens = node.shape[-2] if facts["kind"] == "attention" else 1
            return {"macs": self._products(node, facts), "out_spatial": tokens}
        storage = self.storage.get(weight)
        shape = storage.shape if storage is not None else self.shapes[weight]
        if facts["kind"] == "recurrent":
            facts = _steps_facts(node, facts)
        return {**facts, **_layer_facts(node, facts, shape), **_stored_facts(weight, storage)}

    def _products(self, node: Node, facts: Mapping[str, Any]) -> int:
        """MACs of operators that multiply two activations."""
        if facts["kind"] == "matmul":
            return int(facts["output_elements"] * self.shapes[node.args[0].name][-1])
        if facts["kind"] == "attention":
            query, key = (self.shapes[arg.name] for arg in node.args[:2])
            return int(math.prod(query) + facts["output_elements"]) * key[-2]
        return 0


def _steps_facts(node: Node, facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """Each step gives a product as large as its gates, and rounds its own state."""
    bits = 8 if facts["integer"] else 32
    return {**facts, "output_elements": facts["input_elements"], "activation_bits": bits}


def _layer_facts(
    node: Node, facts: Mapping[str, Any], weight: tuple[int, ...]
) -> Mapping[str, Any]:
    kind, groups = facts["kind"], groups_of(node)
    if kind == "conv_transpose":
        into, out = weight[0], weight[1] * groups
        macs = facts["input_elements"] * math.prod(weight[1:])
    elif kind == "embedding":
        into, out, macs = weight[0], weight[1], 0
    else:
        into, out = weight[1] * groups, weight[0]
        macs = facts["output_elements"] * math.prod(weight[1:])
    return {
        "macs": macs,
        "in_channels": into,
        "out_channels": out,
        "kernel_size": weight[2:],
        "stride": tuple(node.args[3]) if "conv" in kind else (),
        "groups": groups,
        "out_spatial": facts["output_elements"] // max(1, facts["batch"] * out),
        "weight_count": math.prod(weight),
    }


def _stored_facts(weight: str, storage: Storage | None) -> Mapping[str, Any]:
    if storage is None:  # a weight that the graph computes: float, and nothing is stored
        return {"weight_bits": 32, "weight_count": 0}
    return {
        "weight": weight,
        "weight_bits": storage.bits,
        "onnx_type": storage.onnx_type,
        "density": storage.kept / max(1, storage.count),
        "weight_bytes": storage.packed_bytes,
        "group_size": storage.group_size,
    }


def _channels(shape: tuple[int, ...]) -> int:
    return shape[1] if len(shape) > 1 else 1
