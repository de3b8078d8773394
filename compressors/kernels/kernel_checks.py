"""Which kernels ONNX Runtime really gives a model, against those its blueprint promises.

A quantised operator that fails to fuse still computes right, but slower than in float; only the
runtime's own optimised graph shows it. It keeps the names of weights and of codes, so an operator
that fell back is named by its layer.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import NodeProto, numpy_helper

from paredown.compressors.models.codes import (
    arrange,
    codes_source,
    ends_in_codes,
    gives_activated_floats,
)
from paredown.compressors.onnx.dynamic_codes import fused_kernel
from paredown.compressors.onnx.lowering import traced_names
from paredown.spaces.candidates.blueprint import Blueprint
from paredown.spaces.graph.functions import QDQ
from paredown.spaces.graph.graph import Arg, Graph, Node, Ref
from paredown.spaces.graph.operators import OPERATORS
from paredown.spaces.structure.code_kernels import clamps_codes, has_code_kernel, operands
from paredown.spaces.structure.dynamic_values import reads_own_range

EXACT = {"session.qdq_matmulnbits_accuracy_level": "1"}
"""Session entries that keep float activations in float.

By default ONNX Runtime rounds the input of a linear layer with integer weights to 8 bits in blocks
(MatMulNBits). That is fast and moves outputs by about 1e-3 of their range; for parity with our own
run it is turned off.
"""

_INTEGER_KERNELS = {f.integer_kernel for f in OPERATORS.values() if f.integer_kernel} | {
    "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul",
    "QLinearSoftmax",
}
_OPERANDS = 4  # the weight is the fourth input of QLinearConv; scales beyond it may be shared
_BIAS_UNIT = 0.01  # ONNX Runtime itself takes a bias within a hundredth
_EDGES = ("QuantizeLinear", "DequantizeLinear")
_POOLS = "QLinearAveragePool"


def session(model: Path | bytes, threads: int = 1, exact: bool = False) -> ort.InferenceSession:
    """A session on the CPU; `exact` keeps activations in float where the model has floats."""
    options = _options(threads)
    if exact:
        for key, value in EXACT.items():
            options.add_session_config_entry(key, value)
    return _open(model, options)


def integer_kernels(model: Path | bytes) -> Counter[str]:
    """How many kernels of each integer type the runtime's optimised graph holds."""
    return Counter({op: n for op, n in kernels(model).items() if op in _INTEGER_KERNELS})


def kernels(model: Path | bytes) -> Counter[str]:
    """Operator types of the graph after the runtime's optimisations that can be saved."""
    return Counter(node.op_type for node in _optimised(model).graph.node)


def _optimised(model: Path | bytes) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "optimised.onnx"
        options = _options(threads=1)
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(saved)
        _open(model, options)
        return onnx.load(saved, load_external_data=False)


@dataclass(frozen=True, kw_only=True)
class Promise:
    """An integer kernel that one operator must get.

    `layer` is the layer's name in the original model, the node's for operators without a weight.
    `reads` are the ONNX names of its weight, `writes` those of its result: what finds it in an
    optimised graph.
    """

    layer: str
    kernel: str
    reads: frozenset[str]
    writes: frozenset[str]

    def is_kept_by(self, node: NodeProto) -> bool:
        """Whether `node` is this operator and has the promised kernel's type."""
        return node.op_type == self.kernel and self._is(node)

    def runs_as(self, nodes: Sequence[NodeProto]) -> str:
        """The operator that computes the result, seen through the quantisation around it."""
        found = [node for node in nodes if self._is(node)]
        inner = [name for n in found if n.op_type in _EDGES for name in (n.input[0], *n.output)]
        found += [n for n in nodes if not {*n.output}.isdisjoint(inner)]
        found += [n for n in nodes if not {*n.input}.isdisjoint(inner) and self.reads]
        return next((str(n.op_type) for n in found if n.op_type not in _EDGES), "nothing")

    def _is(self, node: NodeProto) -> bool:
        return not (
            self.reads.isdisjoint(node.input[:_OPERANDS]) and self.writes.isdisjoint(node.output)
        )


@dataclass(frozen=True, kw_only=True)
class Fallback:
    """An operator that did not get its kernel; `got` is what runs instead."""

    promise: Promise
    got: str

    def __str__(self) -> str:
        return f"{self.promise.layer} runs as {self.got}, promised was {self.promise.kernel}"


def promises(blueprint: Blueprint) -> tuple[Promise, ...]:
    """Integer kernels the blueprint must get: operators that read codes and end in codes.

    A linear layer is promised one with a float output too. Convolutions need integer weights and
    a quantised output; transposed convolutions have no integer kernel and are not promised.
    """
    graph = arrange(blueprint.graph)
    kernel_of = {node.name: _promise(graph, blueprint, node) for node in graph.nodes}
    found = [node for node in graph.nodes if kernel_of[node.name] is not None]
    layers = {operator.node: operator for operator in blueprint.operators}
    weights = {node: operator.weight for node, operator in layers.items()}
    ends = {node.name: _end(graph, node).name for node in found}
    traced = traced_names(blueprint, {*weights.values(), *ends.values()})
    return tuple(
        Promise(
            layer=layers[node.name].layer if node.name in layers else node.name,
            kernel=kernel_of[node.name] or "",
            reads=traced[weights[node.name]] if node.name in weights else frozenset(),
            writes=traced[ends[node.name]],
        )
        for node in found
    )


def promised_kernels(blueprint: Blueprint) -> Counter[str]:
    """How many kernels of each integer type the blueprint must get."""
    return Counter(promise.kernel for promise in promises(blueprint))


def fallbacks(model: Path | bytes, promised: Sequence[Promise]) -> tuple[Fallback, ...]:
    """Operators that run something else than the kernel they were promised, in their order."""
    if not promised:
        return ()
    nodes = tuple(_optimised(model).graph.node)
    source = onnx.load_from_string(model) if isinstance(model, bytes) else onnx.load(model)
    misread = _misread_biases(source)
    found: list[Fallback] = []
    for promise in promised:
        if not any(promise.is_kept_by(node) for node in nodes):
            found.append(Fallback(promise=promise, got=promise.runs_as(nodes)))
        elif not promise.reads.isdisjoint(misread):
            got = f"{promise.kernel} that misreads its bias: its scale is not s_x * s_w"
            found.append(Fallback(promise=promise, got=got))
    return tuple(found)


def _misread_biases(model: onnx.ModelProto) -> frozenset[str]:
    """ONNX names of weights whose int32 bias is not in units of input scale times weight scale.

    QGemm takes the bias as it is, whatever its scale says, and computes wrong in silence.
    """
    made = {name: node for node in model.graph.node for name in node.output}
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    found = set()
    for node in model.graph.node:
        reads = [made.get(name) for name in node.input[:3]]
        if len(reads) < 3 or any(r is None or r.op_type != "DequantizeLinear" for r in reads):
            continue
        names = [read.input[1] for read in reads if read is not None]
        if not all(name in stored for name in names):
            continue
        x, weight, bias = (numpy_helper.to_array(stored[name]) for name in names)
        if not np.allclose(bias, x * weight, rtol=_BIAS_UNIT, atol=0):
            found.add(reads[1].input[0] if reads[1] is not None else "")
    return frozenset(found)


def _end(graph: Graph, node: Node) -> Node:
    """Where a kernel's result lies: the QDQ node after it and after its clamp, or its own value."""
    users = graph.users.get(node.name, ())
    if len(users) != 1 or node.name in graph.outputs:
        return node
    if clamps_codes(users[0]) and node.op != QDQ:
        return _end(graph, users[0])
    return users[0] if users[0].op == QDQ else node


def _promise(graph: Graph, blueprint: Blueprint, node: Node) -> str | None:
    facts = node.facts
    if facts.kind == "linear":
        return _linear_promise(graph, blueprint, node)
    if facts.integer_kernel is None or not ends_in_codes(graph, node):
        return None
    if facts.kind == "conv":
        reads = _reads_codes(graph, node.args[0]) and _has_codes(blueprint, node)
        return facts.integer_kernel if reads else None
    is_promised = facts.kind == "matmul" or has_code_kernel(node)
    if not is_promised or not all(_reads_codes(graph, operand) for operand in operands(node)):
        return None
    if facts.integer_kernel == _POOLS and all(size == 1 for size in node.shape[2:]):
        return "QLinearGlobalAveragePool"
    return facts.integer_kernel


def _linear_promise(graph: Graph, blueprint: Blueprint, node: Node) -> str | None:
    if reads_own_range(graph, node):
        return fused_kernel(graph, node)
    if not _reads_codes(graph, node.args[0]) or not _has_codes(blueprint, node):
        return None
    if gives_activated_floats(graph, node):
        return None
    if len(node.shape) == 2:
        return "QGemm"
    if node.args[2] is not None:
        # ONNX Runtime makes a Gemm of product and bias only where it knows all sizes.
        return "MatMulIntegerToFloat" if graph.free else "QGemm"
    return "QLinearMatMul" if ends_in_codes(graph, node) else "MatMulIntegerToFloat"


def _has_codes(blueprint: Blueprint, node: Node) -> bool:
    storage = blueprint.storage.get(node.args[1].name)
    return storage is not None and storage.fits_integer_kernels


def _reads_codes(graph: Graph, operand: Arg) -> bool:
    return isinstance(operand, Ref) and codes_source(graph, operand.name) is not None


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def _open(model: Path | bytes, options: ort.SessionOptions) -> ort.InferenceSession:
    source = model if isinstance(model, bytes) else str(model)
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
