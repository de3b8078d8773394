"""The table of operators: every one that a graph may hold, and all that is known about it.

An operator is added by one entry here, with a lowering in `compressors/onnx` where it is more than an
ONNX operator under another name. Capturing, channels, prices, 8-bit codes and the export read this table
and keep no lists of their own.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from paredown.spaces.graph.core import Table, function_of
from paredown.spaces.graph.facts import LIBRARY, ChannelRule, LayerFacts, OnnxRename, OperatorFacts
from paredown.spaces.graph.functions import (
    DYNAMIC_QDQ,
    GETITEM,
    QDQ,
    quantize_dequantize,
    quantize_dequantize_by_range,
)
from paredown.spaces.graph.names import VIEW
from paredown.spaces.graph.recurrent import GATES, GRU, LSTM, RNN_RELU, RNN_TANH, STEPS, WEIGHT_ARG

_aten = torch.ops.aten
_SAME = ChannelRule("same")
_NORM = ChannelRule("per_channel", (1, 2, 3, 4))
_CONV = partial(LayerFacts, groups=6)
_TURNED = partial(LayerFacts, groups=6, out_axis=1)
_CODES_OF_UNIT = (1 / 256, 0)
"""Codes of 0 to 1. ONNX Runtime 1.31 fuses a softmax between codes into QLinearSoftmax, whose fixed-point
arithmetic overflows at finer scales: the largest probabilities become 0 (0.0014 over 4 classes does). At
this scale it is right for all sizes and axes that `benchmarks/fused_kernels.py` tries."""
_CODES_TO_ONE = (float(np.float32(1 / 255)), 0)  # where 1 itself is common

_binary = partial(OperatorFacts, channels=ChannelRule("binary"), operands=2)
_scalar = partial(OperatorFacts, channels=_SAME, operands=2)
_activation = partial(OperatorFacts, kind="activation", channels=_SAME)
_softmax = partial(OperatorFacts, kind="softmax", channels=ChannelRule("along", (1,)))
_conv = partial(OperatorFacts, onnx="conv", kind="conv", weight=1, integer_kernel="QLinearConv")
_conv_transpose = partial(OperatorFacts, onnx="conv_transpose", kind="conv_transpose", weight=1)
_product = partial(
    OperatorFacts,
    onnx=OnnxRename("MatMul"),
    kind="matmul",
    channels=ChannelRule("product"),
    operands=2,
    integer_kernel="QLinearMatMul",
)
_norm = partial(OperatorFacts, kind="norm")
_pool_1d = partial(OperatorFacts, kind="pool", channels=ChannelRule("spatial", (1,)))
_pool_2d = partial(OperatorFacts, kind="pool", channels=ChannelRule("spatial", (2,)))
_reduction = partial(OperatorFacts, kind="pool", channels=ChannelRule("reduce"))
_move = partial(OperatorFacts, moves_data=True)
_view = partial(_move, onnx="reshape", kind="reshape", channels=ChannelRule("view"))
_identity = partial(_move, onnx="alias", kind="reshape", channels=_SAME, is_identity=True)
_pieces = partial(_move, channels=ChannelRule("pieces"), has_several_outputs=True)
_like = partial(OperatorFacts, channels=_SAME)

_ARITHMETIC = (
    _binary(_aten.add.Tensor, OnnxRename("Add"), "add", adds=True, integer_kernel="QLinearAdd"),
    _binary(_aten.sub.Tensor, OnnxRename("Sub"), "add", adds=True),
    _binary(_aten.mul.Tensor, OnnxRename("Mul"), "mul", integer_kernel="QLinearMul"),
    _binary(_aten.div.Tensor, OnnxRename("Div"), "mul"),
    _binary(_aten.maximum.default, OnnxRename("Max"), "add"),
    _binary(_aten.minimum.default, OnnxRename("Min"), "add"),
    _scalar(_aten.add.Scalar, OnnxRename("Add"), "add", adds=True),
    _scalar(_aten.sub.Scalar, OnnxRename("Sub"), "add", adds=True),
    _scalar(_aten.mul.Scalar, OnnxRename("Mul"), "mul"),
    _scalar(_aten.div.Scalar, OnnxRename("Div"), "mul"),
    _scalar(_aten.rsub.Scalar, "reversed_subtraction", "add", adds=True),
    _scalar(_aten.pow.Tensor_Scalar, OnnxRename("Pow"), "activation"),
    _binary(_aten.pow.Tensor_Tensor, OnnxRename("Pow"), "activation", channels=None),
    _like(_aten.neg.default, OnnxRename("Neg"), "mul"),
    _activation(_aten.abs.default, OnnxRename("Abs")),
    _activation(_aten.exp.default, OnnxRename("Exp")),
    _activation(_aten.log.default, OnnxRename("Log")),
    _activation(_aten.sqrt.default, OnnxRename("Sqrt")),
    _activation(_aten.rsqrt.default, "reciprocal_root"),
    _activation(_aten.reciprocal.default, OnnxRename("Reciprocal")),
    _activation(_aten.erf.default, OnnxRename("Erf")),
)

_ACTIVATIONS = (
    _activation(_aten.relu.default, OnnxRename("Relu"), is_clamp=True, float_gemm_takes=True),
    _activation(_aten.relu6.default, "relu6", is_clamp=True),
    _activation(_aten.hardtanh.default, "clamp", is_clamp=True),
    _activation(_aten.clamp.default, "clamp", is_clamp=True),
    _activation(_aten.clamp_min.default, "clamp", is_clamp=True),
    _activation(
        _aten.leaky_relu.default,
        "leaky_relu",
        float_gemm_takes=True,
        integer_kernel="QLinearLeakyRelu",
    ),
    _activation(_aten.elu.default, "elu"),
    _activation(_aten.gelu.default, "gelu"),
    _activation(_aten.silu.default, "silu", is_gated=True),
    _activation(
        _aten.sigmoid.default,
        OnnxRename("Sigmoid"),
        float_gemm_takes=True,
        integer_kernel="QLinearSigmoid",
        known_codes=_CODES_OF_UNIT,
    ),
    _activation(
        _aten.tanh.default, OnnxRename("Tanh"), float_gemm_takes=True, known_codes=(1 / 128, 128)
    ),
    _activation(_aten.hardswish.default, OnnxRename("HardSwish"), is_gated=True),
    _activation(
        _aten.hardsigmoid.default,
        OnnxRename("HardSigmoid", (("alpha", 1 / 6), ("beta", 0.5))),
        float_gemm_takes=True,
        known_codes=_CODES_TO_ONE,
    ),
    _activation(_aten.softplus.default, "softplus"),
    _activation(_aten.mish.default, OnnxRename("Mish")),
    OperatorFacts(
        _aten.prelu.default, "prelu", "activation", ChannelRule("per_channel", (1,)), weight=1
    ),
    _softmax(_aten.softmax.int, "softmax", known_codes=_CODES_OF_UNIT),
    _softmax(_aten._softmax.default, "softmax", known_codes=_CODES_OF_UNIT),
    _softmax(_aten.log_softmax.int, "log_softmax"),
    _softmax(_aten._log_softmax.default, "log_softmax"),
)

_LAYERS = (
    _conv(_aten.conv1d.default, layer=_CONV("conv1d")),
    _conv(_aten.conv1d.padding, layer=_CONV("conv1d")),
    _conv(_aten.conv2d.default, layer=_CONV("conv2d")),
    _conv(_aten.conv2d.padding, layer=_CONV("conv2d")),
    _conv_transpose(_aten.conv_transpose1d.default, layer=_TURNED("conv_transpose1d")),
    _conv_transpose(_aten.conv_transpose2d.input, layer=_TURNED("conv_transpose2d")),
    OperatorFacts(
        _aten.linear.default,
        "linear",
        "linear",
        weight=1,
        layer=LayerFacts("linear", channel_dim=-1),
        integer_kernel="QGemm",
    ),
    OperatorFacts(
        _aten.embedding.default,
        "embedding",
        "embedding",
        weight=0,
        layer=LayerFacts("embedding", bias=None, out_axis=1, channel_dim=-1),
    ),
    _product(_aten.matmul.default),
    _product(_aten.bmm.default),
    _product(_aten.mm.default),
    OperatorFacts(
        _aten.scaled_dot_product_attention.default,
        "attention",
        "attention",
        ChannelRule("attention"),
    ),
    _norm(_aten.batch_norm.default, "batch_norm", channels=_NORM, weight=1),
    _norm(_aten.instance_norm.default, "instance_norm", channels=_NORM, weight=1),
    _norm(_aten.layer_norm.default, "layer_norm", channels=ChannelRule("layer_norm"), weight=2),
    _norm(_aten.group_norm.default, "group_norm", weight=2),
)

_POOLS = (
    _pool_1d(_aten.max_pool1d.default, "max_pool", moves_data=True),
    _pool_2d(_aten.max_pool2d.default, "max_pool", moves_data=True),
    _pool_1d(_aten.avg_pool1d.default, "average_pool", integer_kernel="QLinearAveragePool"),
    _pool_2d(_aten.avg_pool2d.default, "average_pool", integer_kernel="QLinearAveragePool"),
    _pool_1d(
        _aten.adaptive_avg_pool1d.default,
        "adaptive_average_pool",
        integer_kernel="QLinearAveragePool",
    ),
    _pool_2d(
        _aten.adaptive_avg_pool2d.default,
        "adaptive_average_pool",
        integer_kernel="QLinearAveragePool",
    ),
    # Where `is_global_pool`: other means have no kernel from codes to codes.
    _reduction(_aten.mean.dim, "mean", integer_kernel="QLinearGlobalAveragePool"),
    _reduction(_aten.sum.dim_IntList, "sum"),
    OperatorFacts(_aten.mean.default, "mean_of_all", "pool"),
    OperatorFacts(_aten.argmax.default, "argmax", "pool"),
    OperatorFacts(_aten.linalg_vector_norm.default, LIBRARY, "pool"),
)

_MOVES = (
    _view(_aten.reshape.default, sizes=1),
    _view(_aten.flatten.using_ints),
    _view(_aten.unsqueeze.default, channels=ChannelRule("unsqueeze")),
    _view(_aten.squeeze.dim, channels=ChannelRule("squeeze")),
    _identity(_aten.contiguous.default),
    _identity(_aten.clone.default),
    _identity(_aten.dropout.default),
    _identity(_aten.alias.default),
    _identity(_aten._to_copy.default),
    _like(_aten.to.dtype, "convert"),
    _like(_aten.zeros_like.default, "zeros"),
    _like(_aten.ones_like.default, "ones"),
    _move(_aten.transpose.int, "transpose", channels=ChannelRule("transpose")),
    _move(_aten.permute.default, "permute", channels=ChannelRule("permute")),
    _move(_aten.expand.default, "expand", channels=ChannelRule("expand"), sizes=1),
    _move(_aten.slice.Tensor, "slice", channels=ChannelRule("slice")),
    _move(_aten.select.int, "select", channels=ChannelRule("select")),
    _move(_aten.pad.default, "pad", channels=ChannelRule("pad"), fill=3),
    _move(_aten.constant_pad_nd.default, "pad", channels=ChannelRule("pad"), fill=2),
    _move(_aten.pixel_shuffle.default, "pixel_shuffle"),
    _move(_aten.channel_shuffle.default, "channel_shuffle"),
    _pieces(_aten.split.Tensor, "split"),
    _pieces(_aten.split_with_sizes.default, "split"),
    _pieces(_aten.chunk.default, "chunk"),
    _pieces(_aten.unbind.int, "unbind", channels=ChannelRule("unbind")),
    _move(
        _aten.upsample_nearest2d.vec, "nearest", "resize", channels=ChannelRule("spatial", (2,))
    ),
    OperatorFacts(
        _aten.upsample_bilinear2d.vec, "bilinear", "resize", ChannelRule("spatial", (2,))
    ),
    OperatorFacts(
        _aten.cat.default,
        "concat",
        "concat",
        ChannelRule("concat"),
        integer_kernel="QLinearConcat",
        selects=True,
    ),
    OperatorFacts(_aten.stack.default, "stack", "concat", selects=True),
    OperatorFacts(_aten.roll.default, "roll", selects=True),
    OperatorFacts(_aten.masked_fill.Scalar, "masked_fill"),
)

_OURS = {
    QDQ: OperatorFacts(quantize_dequantize, "quantise", None, _SAME),
    DYNAMIC_QDQ: OperatorFacts(quantize_dequantize_by_range, "find_range", None, _SAME),
    GETITEM: OperatorFacts(operator.getitem, "pick", None, ChannelRule("pick"), moves_data=True),
    # Captures drop the copies that made strided tensors contiguous, which a true view would need.
    VIEW: _view(_aten.reshape.default, sizes=1),
}

_RECURRENT = {
    GATES: OperatorFacts(
        _aten.linear.default,
        "gates",
        "gates",
        weight=1,
        layer=LayerFacts("linear", channel_dim=-1),
    )
} | {
    op: OperatorFacts(
        STEPS[op],
        lowering,
        "recurrent",
        ChannelRule("steps"),
        weight=WEIGHT_ARG[op],
        layer=LayerFacts("recurrent", bias=WEIGHT_ARG[op] + 1, channel_dim=-1),
        has_several_outputs=op == LSTM,
    )
    for op, lowering in ((LSTM, "lstm"), (GRU, "gru"), (RNN_TANH, "rnn"), (RNN_RELU, "rnn"))
}

OPERATORS: Mapping[str, OperatorFacts] = Table(
    _OURS
    | _RECURRENT
    | {
        str(facts.function): replace(facts, function=function_of(facts.function))
        for facts in (*_ARITHMETIC, *_ACTIVATIONS, *_LAYERS, *_POOLS, *_MOVES)
    }
)
"""Every operator that has an entry, by its name in a graph; core operators of ATen need none."""
