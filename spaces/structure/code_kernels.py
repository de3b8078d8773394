"""Operators by what ONNX Runtime does with 8-bit codes: moves them, computes on them, clamps them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from paredown.spaces.graph.functions import GETITEM
from paredown.spaces.graph.graph import Arg, Graph, Node, Ref

MAX_POOLS = frozenset({"aten.max_pool1d.default", "aten.max_pool2d.default"})
MOVES_DATA = (
    "aten.view.default",
    "aten.reshape.default",
    "aten.flatten.using_ints",
    "aten.transpose.int",
    "aten.permute.default",
    "aten.unsqueeze.default",
    "aten.squeeze.dim",
    "aten.slice.Tensor",
    "aten.select.int",
    "aten.expand.default",
    "aten.pad.default",
    "aten.constant_pad_nd.default",
    *sorted(MAX_POOLS),
    "aten.pixel_shuffle.default",
    "aten.upsample_nearest2d.vec",
    "aten.channel_shuffle.default",
    "aten.split.Tensor",
    "aten.split_with_sizes.default",
    "aten.chunk.default",
    "aten.unbind.int",
    GETITEM,
)
"""Operators that move, repeat or select values and compute none, so codes go through unchanged."""

CLAMPS = frozenset({"aten.relu.default", "aten.relu6.default", "aten.hardtanh.default"})
"""Activations that become a clamp of the codes."""

PRODUCTS = frozenset({"aten.matmul.default", "aten.bmm.default"})

INTEGER_OPERATORS = frozenset(
    f"aten.{name}"
    for name in (
        "add.Tensor",
        "mul.Tensor",
        "cat.default",
        "avg_pool1d.default",
        "avg_pool2d.default",
        "adaptive_avg_pool1d.default",
        "adaptive_avg_pool2d.default",
        "sigmoid.default",
        "leaky_relu.default",
    )
)
"""Operators without weights that have a kernel from codes to codes, which agrees with our simulation
within a code wherever `benchmarks/operators/fused_kernels.py` looks."""

FLOAT_GEMM_TAKES = frozenset(
    f"aten.{name}.default" for name in ("relu", "leaky_relu", "sigmoid", "tanh", "hardsigmoid")
)
"""Activations that ONNX Runtime 1.31 fuses into a Gemm of float result before it looks for quantised
ones: such a linear layer has no integer kernel, whatever it reads."""

_UNIT = (1 / 256, 0)
KNOWN_CODES: Mapping[str, tuple[float, int]] = {
    "aten.softmax.int": _UNIT,
    "aten._softmax.default": _UNIT,
    "aten.sigmoid.default": _UNIT,
    "aten.hardsigmoid.default": (float(np.float32(1 / 255)), 0),  # 1 itself is common
    "aten.tanh.default": (1 / 128, 128),
}
"""Scale and zero point of results whose range mathematics knows, whatever calibration data showed.

ONNX Runtime 1.31 fuses a softmax between codes into QLinearSoftmax, whose fixed-point arithmetic
overflows at finer scales: the largest probabilities become 0 (0.0014 over 4 classes does). At 1/256
with zero point 0 it is right for all sizes and axes that `benchmarks/operators/fused_kernels.py` tries.
"""


def is_global_pool(node: Node) -> bool:
    """Whether a mean is written as a global pooling: over all positions, dimensions kept."""
    if node.op != "aten.mean.dim" or not node.args[2]:
        return False
    rank = len(node.shape)
    axes = sorted(axis % rank for axis in node.args[1] or ())
    return rank in (3, 4) and axes == list(range(2, rank))


def operands(node: Node) -> tuple[Arg, ...]:
    """What an operator of `INTEGER_OPERATORS` or `PRODUCTS`, or a pool, computes on."""
    if node.op == "aten.cat.default":
        return tuple(node.args[0])
    takes_two = node.op in PRODUCTS or node.op in ("aten.add.Tensor", "aten.mul.Tensor")
    return node.args[:2] if takes_two else node.args[:1]


def reads_values_alone(graph: Graph, node: Node) -> bool:
    """Whether no operand is a constant: tensors of the model and numbers have no codes."""
    return all(isinstance(each, Ref) and each.name in graph.values for each in operands(node))
