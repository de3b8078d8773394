"""What kind of work each operator of a graph is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch

from paredown.spaces.graph.core import obstacle, overload_of
from paredown.spaces.graph.graph import Node, Ref

Kind = Literal[
    "conv",
    "depthwise_conv",
    "conv_transpose",
    "linear",
    "embedding",
    "matmul",
    "attention",
    "add",
    "mul",
    "activation",
    "norm",
    "softmax",
    "pool",
    "resize",
    "concat",
    "move",
    "reshape",
    "quantize",
    "dequantize",
]

_OPERATORS: Mapping[Kind, str] = {
    "conv": "conv1d.default conv2d.default conv2d.padding conv1d.padding",
    "conv_transpose": "conv_transpose1d.default conv_transpose2d.input",
    "linear": "linear.default",
    "embedding": "embedding.default",
    "matmul": "matmul.default bmm.default",
    "attention": "scaled_dot_product_attention.default",
    "add": """
        add.Tensor sub.Tensor add.Scalar sub.Scalar rsub.Scalar maximum.default minimum.default""",
    "mul": "mul.Tensor div.Tensor mul.Scalar div.Scalar neg.default",
    "activation": """
        relu.default relu6.default hardtanh.default leaky_relu.default elu.default gelu.default
        silu.default sigmoid.default tanh.default hardswish.default hardsigmoid.default
        softplus.default mish.default prelu.default clamp.default clamp_min.default abs.default
        exp.default log.default sqrt.default rsqrt.default pow.Tensor_Scalar reciprocal.default
        erf.default""",
    "softmax": "softmax.int _softmax.default log_softmax.int _log_softmax.default",
    "norm": "batch_norm.default layer_norm.default group_norm.default instance_norm.default",
    "pool": """
        max_pool1d.default max_pool2d.default avg_pool1d.default avg_pool2d.default
        adaptive_avg_pool1d.default adaptive_avg_pool2d.default mean.dim mean.default
        sum.dim_IntList argmax.default""",
    "resize": "upsample_nearest2d.vec upsample_bilinear2d.vec",
    "concat": "cat.default stack.default",
    "move": """
        transpose.int permute.default slice.Tensor select.int pad.default constant_pad_nd.default
        split.Tensor split_with_sizes.default chunk.default unbind.int pixel_shuffle.default
        channel_shuffle.default expand.default to.dtype _to_copy.default zeros_like.default
        ones_like.default roll.default masked_fill.Scalar""",
    "reshape": """
        view.default reshape.default flatten.using_ints unsqueeze.default squeeze.dim
        contiguous.default clone.default dropout.default alias.default""",
}

KINDS: Mapping[str, Kind] = {
    f"aten.{name}": kind for kind, names in _OPERATORS.items() for name in names.split()
}
"""The kind of every operator a graph may hold, but for QDQ nodes and `getitem`."""

SPLITS = frozenset(
    f"aten.{name}"
    for name in ("split.Tensor", "split_with_sizes.default", "chunk.default", "unbind.int")
)
"""Operators with several outputs."""

# The number of the argument that holds the groups of a convolution.
_GROUPS_ARGUMENT: Mapping[Kind, int] = {"conv": 6, "conv_transpose": 6}


class UnknownOperator(ValueError):
    """A graph holds an operator whose work is not known."""


def kind_of(node: Node, weight_shape: tuple[int, ...] = ()) -> Kind:
    """The kind of work a node is; `weight_shape` tells depthwise convolutions from dense ones.

    Raises:
        UnknownOperator: The operator is missing from `KINDS`.
    """
    kind = KINDS.get(node.op) or _by_rule(node.op)
    if kind is None:
        raise UnknownOperator(
            f"every operator needs a kind of work, {node.op!r} (node {node.name!r}) has none; "
            "add it to hardware_models/work/kinds.py"
        )
    if kind == "conv" and weight_shape and 1 < weight_shape[0] == groups_of(node, kind):
        return "depthwise_conv"
    return kind


def _by_rule(op: str) -> Kind | None:
    """The kind of a core operator that is not named above, by what ATen says of it."""
    overload = overload_of(op)
    if overload is None or obstacle(op) is not None:
        return None
    if torch.Tag.reduction in overload.tags:
        return "pool"
    return "activation" if torch.Tag.pointwise in overload.tags else "move"


def groups_of(node: Node, kind: Kind) -> int:
    """Groups of a convolution; 1 for anything else."""
    position = _GROUPS_ARGUMENT.get("conv" if kind == "depthwise_conv" else kind)
    return 1 if position is None else int(node.args[position])


def weight_name(node: Node, kind: Kind) -> str:
    """Name of the value a layer takes as its weight; "" where the kind has none."""
    if kind in ("conv", "depthwise_conv", "conv_transpose", "linear"):
        reference = node.args[1]
    elif kind == "embedding":
        reference = node.args[0]
    else:
        return ""
    assert isinstance(reference, Ref)
    return reference.name
