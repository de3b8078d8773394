"""Every operator that a graph may hold, as a pure function of its arguments."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from paredown.spaces.graph.core import function_of, obstacle, overload_of

QDQ = "paredown.quantize_dequantize"
"""Rounds a tensor to 8-bit codes and back: (x, scale, zero_point, low, high)."""

DYNAMIC_QDQ = "paredown.quantize_dequantize_by_range"
"""The same by the range of the values themselves: (x, rows, axis, outside)."""

QUANTISERS = (QDQ, DYNAMIC_QDQ)

CONVERT = "aten.to.dtype"
"""Another type for the same values: (x, dtype)."""

GETITEM = "getitem"
"""Picks one output of an operator that has several: (values, index)."""


def quantize_dequantize(x: Tensor, scale: float, zero_point: int, low: int, high: int) -> Tensor:
    """`x` rounded to the codes `low..high`, as ONNX QuantizeLinear then DequantizeLinear do."""
    # The zero point moves the limits, not the codes, and one tensor is made: half the time.
    codes = torch.div(x, scale).round_()
    return codes.clamp_(low - zero_point, high - zero_point).mul_(scale)


def quantize_dequantize_by_range(x: Tensor, rows: int, axis: int = 0, outside: int = 1) -> Tensor:
    """`x` rounded to the 256 codes of its own range, as ONNX DynamicQuantizeLinear does.

    A range holds for what is run at once: the batch is cut into pieces of `rows`, its size in the
    deployed model, so that samples that are scored together do not widen each other's range.

    Args:
        axis: The dimension that grows with the batch.
        outside: Steps of that dimension which the batch repeats in, as tokens do in front of it.
    """
    by_sample = x.unflatten(axis, (outside, -1)).movedim(axis + 1, 0)
    whole = len(by_sample) - len(by_sample) % rows
    if 0 < whole < len(by_sample):  # fewer samples are left at the end
        rounded = torch.cat(
            [_by_range(by_sample[:whole], whole // rows), _by_range(by_sample[whole:], 1)]
        )
    else:
        rounded = _by_range(by_sample, max(1, whole // rows))
    return rounded.movedim(0, axis + 1).reshape(x.shape)


def _by_range(x: Tensor, runs: int) -> Tensor:
    """Each of so many equal runs of rows, rounded by its own range."""
    values = x.reshape(runs, -1)
    low, high = torch.aminmax(values, dim=1, keepdim=True)
    low, high = low.clamp_max_(0.0), high.clamp_min_(0.0)
    scale = (high - low) / 255
    scale = torch.where(scale > 0, scale, 1.0)
    zero_point = (-low / scale).round_()
    codes = torch.div(values, scale).round_()
    return codes.clamp_(-zero_point, 255 - zero_point).mul_(scale).reshape(x.shape)


_OPERATORS = """
    add.Tensor sub.Tensor mul.Tensor div.Tensor add.Scalar sub.Scalar mul.Scalar div.Scalar
    rsub.Scalar neg.default abs.default exp.default log.default sqrt.default rsqrt.default
    pow.Tensor_Scalar clamp.default clamp_min.default reciprocal.default erf.default
    maximum.default minimum.default relu.default relu6.default hardtanh.default leaky_relu.default
    elu.default gelu.default silu.default sigmoid.default tanh.default hardswish.default
    hardsigmoid.default softplus.default mish.default prelu.default softmax.int _softmax.default
    log_softmax.int _log_softmax.default conv1d.default conv2d.default conv2d.padding
    conv1d.padding conv_transpose1d.default conv_transpose2d.input linear.default
    embedding.default matmul.default bmm.default batch_norm.default layer_norm.default
    group_norm.default instance_norm.default max_pool1d.default max_pool2d.default
    avg_pool1d.default avg_pool2d.default adaptive_avg_pool1d.default adaptive_avg_pool2d.default
    mean.dim mean.default sum.dim_IntList view.default reshape.default flatten.using_ints
    transpose.int permute.default unsqueeze.default squeeze.dim expand.default contiguous.default
    clone.default dropout.default cat.default stack.default slice.Tensor select.int pad.default
    constant_pad_nd.default split.Tensor split_with_sizes.default chunk.default unbind.int
    upsample_nearest2d.vec upsample_bilinear2d.vec pixel_shuffle.default
    scaled_dot_product_attention.default argmax.default to.dtype _to_copy.default alias.default
    zeros_like.default ones_like.default channel_shuffle.default roll.default
    masked_fill.Scalar
"""


class _Functions(dict[str, Callable[..., Any]]):
    """Functions by operator; a core operator of ATen without an entry is run as it is."""

    def __missing__(self, op: str) -> Callable[..., Any]:
        overload = overload_of(op)
        if overload is None or obstacle(op) is not None:
            raise KeyError(op)
        return function_of(overload)

    def __contains__(self, op: object) -> bool:
        return super().__contains__(op) or (isinstance(op, str) and obstacle(op) is None)


def _allowed_functions() -> _Functions:
    functions = _Functions(
        {
            QDQ: quantize_dequantize,
            DYNAMIC_QDQ: quantize_dequantize_by_range,
            GETITEM: operator.getitem,
        }
    )
    for entry in _OPERATORS.split():
        overload = overload_of(f"aten.{entry}")
        assert overload is not None
        functions[f"aten.{entry}"] = function_of(overload)
    # Captures drop the copies that made strided tensors contiguous, which a true view would need.
    functions["aten.view.default"] = functions["aten.reshape.default"]
    return functions


FUNCTIONS: Mapping[str, Callable[..., Any]] = _allowed_functions()
"""Every operator a graph may hold: pure functions only, so a stored graph is safe to run."""
