"""Which kernels ONNX Runtime really gives a model, against those its blueprint promises.

A quantised operator that fails to fuse still computes right, but slower than in float; only
counting kernels in the runtime's own optimised graph shows it.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import onnx
import onnxruntime as ort

from paredown.compressors.export.codes import arrange, codes_source
from paredown.spaces.blueprint import Blueprint
from paredown.spaces.graph import QDQ, Graph, Node, Ref

EXACT = {"session.qdq_matmulnbits_accuracy_level": "1"}
"""Session entries that keep float activations in float.

By default ONNX Runtime rounds the input of a linear layer with integer weights to 8 bits in blocks
(MatMulNBits). That is fast and moves outputs by about 1e-3 of their range; for parity with our own
run it is turned off.
"""

_INTEGER_KERNELS = (
    "QLinearConv",
    "QGemm",
    "QLinearMatMul",
    "MatMulIntegerToFloat",
    "QLinearAdd",
    "QLinearMul",
    "QLinearAveragePool",
    "QLinearGlobalAveragePool",
    "QLinearConcat",
    "QLinearSigmoid",
    "QLinearLeakyRelu",
    "QLinearSoftmax",
)
_CLAMPS = (
    "aten.relu.default",
    "aten.relu6.default",
    "aten.hardtanh.default",
    "aten.clamp.default",
)
_QUANTISED_OUTPUT = {
    "aten.conv1d.default": "QLinearConv",
    "aten.conv2d.default": "QLinearConv",
    "aten.conv1d.padding": "QLinearConv",
    "aten.conv2d.padding": "QLinearConv",
    "aten.add.Tensor": "QLinearAdd",
    "aten.mul.Tensor": "QLinearMul",
    "aten.cat.default": "QLinearConcat",
    "aten.avg_pool1d.default": "QLinearAveragePool",
    "aten.avg_pool2d.default": "QLinearAveragePool",
    "aten.adaptive_avg_pool1d.default": "QLinearAveragePool",
    "aten.adaptive_avg_pool2d.default": "QLinearAveragePool",
}
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
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "optimised.onnx"
        options = _options(threads=1)
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(saved)
        _open(model, options)
        optimised = onnx.load(saved, load_external_data=False)
    return Counter(node.op_type for node in optimised.graph.node)


def promised_kernels(blueprint: Blueprint) -> Counter[str]:
    """Integer kernels the blueprint must get: operators that read codes and end in codes.

    A linear layer is promised one with a float output too. Convolutions need int8 weights and a
    quantised output; transposed convolutions have no integer kernel and are not promised.
    """
    graph = arrange(blueprint.graph)
    found = (_promise(graph, blueprint, node) for node in graph.nodes)
    return Counter(kernel for kernel in found if kernel is not None)


def _promise(graph: Graph, blueprint: Blueprint, node: Node) -> str | None:
    if node.op == "aten.linear.default":
        return _linear_promise(graph, blueprint, node)
    kernel = _mean_pool(graph, node) or _QUANTISED_OUTPUT.get(node.op)
    if kernel is None or not _ends_in_codes(graph, node):
        return None
    if kernel == "QLinearConv":
        return kernel if _reads_codes(graph, node.args[0]) and _is_int8(blueprint, node) else None
    operands = node.args[0] if kernel == "QLinearConcat" else node.args[:2]
    if kernel.endswith("Pool"):
        operands = node.args[:1]
    if not all(_reads_codes(graph, operand) for operand in operands):
        return None
    if kernel == _POOLS and all(size == 1 for size in node.shape[2:]):
        return "QLinearGlobalAveragePool"
    return kernel


def _mean_pool(graph: Graph, node: Node) -> str | None:
    """A mean over the spatial dimensions with keepdim is written as a global pool."""
    if node.op != "aten.mean.dim" or not node.args[2]:
        return None
    rank = len(node.shape)
    axes = tuple(sorted(d % rank for d in node.args[1] or ()))
    is_pool = rank in (3, 4) and axes == tuple(range(2, rank))
    return "QLinearGlobalAveragePool" if is_pool else None


def _linear_promise(graph: Graph, blueprint: Blueprint, node: Node) -> str | None:
    if not _reads_codes(graph, node.args[0]) or not _is_int8(blueprint, node):
        return None
    if node.args[2] is not None or len(node.shape) == 2:
        return "QGemm"
    return "QLinearMatMul" if _ends_in_codes(graph, node) else "MatMulIntegerToFloat"


def _is_int8(blueprint: Blueprint, node: Node) -> bool:
    storage = blueprint.storage.get(node.args[1].name)
    return storage is not None and storage.onnx_type == "int8"


def _reads_codes(graph: Graph, operand: object) -> bool:
    return isinstance(operand, Ref) and codes_source(graph, operand.name) is not None


def _ends_in_codes(graph: Graph, node: Node) -> bool:
    users = graph.users.get(node.name, ())
    if node.name in graph.outputs or len(users) != 1:
        return False
    if users[0].op in _CLAMPS:
        return _ends_in_codes(graph, users[0])
    return users[0].op == QDQ


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def _open(model: Path | bytes, options: ort.SessionOptions) -> ort.InferenceSession:
    source = model if isinstance(model, bytes) else str(model)
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
