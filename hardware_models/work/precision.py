"""Which operators of a blueprint compute on 8-bit codes, and where codes and floats meet.

QDQ nodes only say that a tensor has codes. A runtime runs an integer kernel where all inputs have
codes and the result is wanted as codes (the kernel writes them itself); elsewhere it dequantises
and computes in float. Layout-only operators hand codes through. This is what ONNX Runtime's QDQ
fusion does and what integer-only runtimes need.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from paredown.hardware_models.work.kinds import kind_of, weight_name
from paredown.spaces.candidates.blueprint import Blueprint
from paredown.spaces.graph.facts import WorkKind
from paredown.spaces.graph.functions import DYNAMIC_QDQ, QDQ
from paredown.spaces.graph.graph import Graph, Node
from paredown.spaces.structure.code_kernels import (
    clamps_codes,
    has_code_kernel,
    keeps_floats,
    reads_values_alone,
)
from paredown.spaces.structure.dynamic_values import reads_own_range, rounds_state

Codes = tuple[float, int] | str
"""Scale and zero point of a tensor of 8-bit codes; the name of the node that finds them in every run."""

# Layers with an integer kernel. ONNX Runtime 1.31 has none for transposed convolutions,
# embeddings, norms or attention: they run in float between a DequantizeLinear and a
# QuantizeLinear.
_INTEGER_LAYERS = frozenset({"conv", "depthwise_conv", "linear", "matmul"})
# Layers whose float weights ONNX Runtime 1.31 rounds to 8 bits itself where codes come and go: it
# then runs an integer kernel (QGemm of two dimensions, QLinearConv).
_ROUNDED_BY_RUNTIME = frozenset({"conv", "depthwise_conv", "linear"})
# Matrix products also have kernels that take codes and give floats (QGemm, MatMulIntegerToFloat).
_FLOAT_RESULT_KINDS = frozenset({"linear", "matmul"})
# Kernels that compute the activation behind them.
_FUSES_ACTIVATION = frozenset({"conv", "depthwise_conv", "linear"})


@dataclass(frozen=True, kw_only=True)
class Precision:
    """Codes and kernels of a graph.

    `kinds` has every node but QDQ and `getitem`. `codes` maps each value that exists as 8-bit
    codes to their scale and zero point. `integer` names the nodes with an integer kernel. `fused`
    names activations and additions that run inside the kernel before them.
    """

    kinds: Mapping[str, WorkKind]
    inputs: Mapping[str, tuple[str, ...]]
    codes: Mapping[str, Codes]
    integer: frozenset[str]
    fused: frozenset[str]


def read_precision(blueprint: Blueprint) -> Precision:
    """Codes and kernels of the blueprint's graph, read from its QDQ nodes and storage."""
    graph = blueprint.graph
    values = graph.values
    kinds: dict[str, WorkKind] = {}
    inputs: dict[str, tuple[str, ...]] = {}
    for node in graph.nodes:
        inputs[node.name] = tuple(name for name in node.inputs if name in values)
        kind = _kind(node, blueprint)
        if kind is not None:
            kinds[node.name] = kind
    outputs = frozenset(graph.outputs)
    users = _users(graph.nodes, inputs)
    wanted = _wanted_codes(graph.nodes, users, outputs)
    codes, integer = _codes_and_kernels(blueprint, kinds, inputs, users, wanted)
    return Precision(
        kinds=kinds,
        inputs=inputs,
        codes=codes,
        integer=integer,
        fused=_fused(graph, kinds, inputs, users, integer),
    )


def _codes_and_kernels(
    blueprint: Blueprint,
    kinds: Mapping[str, WorkKind],
    inputs: Mapping[str, tuple[str, ...]],
    users: Mapping[str, list[Node]],
    wanted: Mapping[str, Codes],
) -> tuple[Mapping[str, Codes], frozenset[str]]:
    codes: dict[str, Codes] = {}
    integer: set[str] = set()
    for node in blueprint.graph.nodes:
        if node.op == QDQ:
            codes[node.name] = (node.args[1], node.args[2])
            continue
        if node.op == DYNAMIC_QDQ:
            codes[node.name] = node.name
            continue
        if reads_own_range(blueprint.graph, node) or rounds_state(node):
            integer.add(node.name)
            continue
        sources = [codes[name] for name in inputs[node.name] if name in codes]
        if not sources or len(sources) < len(inputs[node.name]):
            continue
        if node.facts.moves_data:
            codes[node.name] = sources[0]
            integer.add(node.name)
        elif _is_rounded_by_runtime(node, kinds[node.name], blueprint) and node.name in wanted:
            codes[node.name] = wanted[node.name]
            integer.add(node.name)
        elif _has_integer_kernel(node, kinds[node.name], blueprint):
            if node.name in wanted:
                codes[node.name] = wanted[node.name]
                integer.add(node.name)
            elif _can_give_floats(node, kinds, users):
                integer.add(node.name)
    return codes, frozenset(integer)


def _can_give_floats(
    node: Node, kinds: Mapping[str, WorkKind], users: Mapping[str, list[Node]]
) -> bool:
    """Whether an integer kernel takes codes and gives this product's floats."""
    if kinds[node.name] not in _FLOAT_RESULT_KINDS:
        return False
    readers = users.get(node.name, [])
    is_linear = kinds[node.name] == "linear"
    return not (is_linear and len(readers) == 1 and keeps_floats(node, readers[0]))


def _kind(node: Node, blueprint: Blueprint) -> WorkKind | None:
    kind = kind_of(node)
    storage = blueprint.storage.get(weight_name(node)) if kind == "conv" else None
    return kind_of(node, storage.shape) if storage is not None else kind


def _users(
    nodes: tuple[Node, ...], inputs: Mapping[str, tuple[str, ...]]
) -> Mapping[str, list[Node]]:
    users: dict[str, list[Node]] = {}
    for node in nodes:
        for name in dict.fromkeys(inputs[node.name]):
            users.setdefault(name, []).append(node)
    return users


def _fused(
    graph: Graph,
    kinds: Mapping[str, WorkKind],
    inputs: Mapping[str, tuple[str, ...]],
    users: Mapping[str, list[Node]],
    integer: frozenset[str],
) -> frozenset[str]:
    fused: set[str] = set()
    for node in graph.nodes:
        kind = kinds.get(node.name)
        if kind not in ("activation", "add"):
            continue
        alone = [
            name
            for name in inputs[node.name]
            if name in kinds and len(users[name]) == 1 and name not in graph.outputs
        ]
        if kind == "activation":
            # An integer kernel takes a clamp with it, any other activation of codes is its own.
            if node.name in integer and not clamps_codes(node):
                continue
            into = any(
                (
                    kinds[name] in _FUSES_ACTIVATION
                    and not reads_own_range(graph, graph.by_name[name])
                )
                or (kinds[name] == "add" and (name in fused or name in integer))
                for name in alone
            )
            if into and node.facts.fuses_into_layer:
                fused.add(node.name)
        # Only float convolutions add a second input for free: there is no integer kernel for it.
        elif (
            len(inputs[node.name]) == 2
            and node.name not in integer
            and any(kinds[name] == "conv" and name not in integer for name in alone)
        ):
            fused.add(node.name)
    return frozenset(fused)


def _wanted_codes(
    nodes: tuple[Node, ...],
    users: Mapping[str, list[Node]],
    outputs: frozenset[str],
) -> Mapping[str, Codes]:
    """The codes that all users of a value agree on; a value some user wants as floats has none."""
    wanted: dict[str, Codes] = {}
    for node in reversed(nodes):
        readers = users.get(node.name, [])
        if node.name in outputs or not readers:
            continue
        asked: set[Codes | None] = set()
        for user in readers:
            if user.op == QDQ:
                asked.add((user.args[1], user.args[2]))
            elif user.facts.moves_data or (clamps_codes(user) and len(readers) == 1):
                asked.add(wanted.get(user.name))
            else:
                asked.add(None)
        if len(asked) == 1 and None not in asked:
            (codes,) = asked
            assert codes is not None
            wanted[node.name] = codes
    return wanted


def _has_integer_kernel(node: Node, kind: WorkKind, blueprint: Blueprint) -> bool:
    if kind not in _INTEGER_LAYERS:
        return has_code_kernel(node) and reads_values_alone(blueprint.graph, node)
    if kind == "matmul":
        return reads_values_alone(blueprint.graph, node)
    storage = blueprint.storage.get(weight_name(node))
    return storage is None or storage.fits_integer_kernels


def _is_rounded_by_runtime(node: Node, kind: WorkKind, blueprint: Blueprint) -> bool:
    storage = blueprint.storage.get(weight_name(node))
    # Codes with several scales a row are multiplied as floats: a MatMul, which stays what it is.
    if storage is not None and storage.stays_float:
        return False
    return kind in _ROUNDED_BY_RUNTIME and (kind != "linear" or len(node.shape) == 2)
