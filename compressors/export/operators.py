"""ONNX lowerings of operators without weights: arithmetic, activations, pools and reductions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from paredown.compressors.export.emitter import Emitter
from paredown.compressors.export.plan import Attribute, ExportError
from paredown.spaces.graph import Arg, Node

Lowering = Callable[[Emitter, Node], None]


def _direct(op_type: str, **attributes: Attribute) -> Lowering:
    """The same operator on the first argument."""

    def lower(e: Emitter, node: Node) -> None:
        e.put(node, e.plan.emit(op_type, e.value(node.args[0], node.dtype), **attributes))

    return lower


# Of truth values torch makes these of the arithmetic; ONNX has arithmetic of numbers alone.
_LOGIC = {"Add": "Or", "Mul": "And", "Max": "Or", "Min": "And"}
# What ONNX Runtime has no arithmetic of is computed in a wider type, and wraps or rounds afterwards.
_COMPUTED_AS = {"int8": "int32", "uint8": "int32", "int16": "int32", "bfloat16": "float32"}


def _binary(op_type: str) -> Lowering:
    """Two operands, in the type that torch gives the result; alpha, if given, scales the second."""

    def lower(e: Emitter, node: Node) -> None:
        first, second, *alpha = node.args
        _combine(e, node, op_type, first, second, *alpha)

    return lower


def _reversed_subtraction(e: Emitter, node: Node) -> None:
    """`args[1] - alpha * args[0]`."""
    subtrahend, minuend, alpha = node.args
    _combine(e, node, "Sub", minuend, subtrahend, alpha)


def _combine(
    e: Emitter, node: Node, op_type: str, first: Arg, second: Arg, alpha: Arg = 1
) -> None:
    dtype = _COMPUTED_AS.get(node.dtype, node.dtype)
    if dtype == "bool":
        op_type = _LOGIC[op_type]
    left, right = e.value(first, dtype), e.value(second, dtype)
    if alpha != 1:
        right = e.plan.emit("Mul", right, e.value(alpha, dtype))
    e.put(node, e.cast(e.plan.emit(op_type, left, right), dtype, node.dtype))


def _reciprocal_root(e: Emitter, node: Node) -> None:
    root = e.plan.emit("Sqrt", e.value(node.args[0], node.dtype))
    e.put(node, e.plan.emit("Reciprocal", root))


def _clip(e: Emitter, node: Node, low: Arg, high: Arg) -> None:
    bounds = [e.optional(low, node.dtype), e.optional(high, node.dtype)]
    while bounds and not bounds[-1]:
        bounds.pop()
    e.put(node, e.plan.emit("Clip", e.value(node.args[0], node.dtype), *bounds))


def _clamp(e: Emitter, node: Node) -> None:
    low, high = (*node.args[1:], None)[:2]
    _clip(e, node, low, high)


def _relu6(e: Emitter, node: Node) -> None:
    _clip(e, node, 0.0, 6.0)


def _leaky_relu(e: Emitter, node: Node) -> None:
    x = e.value(node.args[0])
    e.put(node, e.plan.emit("LeakyRelu", x, alpha=float(node.args[1])))


def _elu(e: Emitter, node: Node) -> None:
    if tuple(node.args[2:]) != (1, 1):
        raise unsupported(node, f"scale and input_scale {node.args[2:]}")
    e.put(node, e.plan.emit("Elu", e.value(node.args[0]), alpha=float(node.args[1])))


def _silu(e: Emitter, node: Node) -> None:
    x = e.value(node.args[0])
    e.put(node, e.plan.emit("Mul", x, e.plan.emit("Sigmoid", x)))


def _softplus(e: Emitter, node: Node) -> None:
    if node.args[1] != 1:
        raise unsupported(node, f"beta={node.args[1]}")
    e.put(node, e.plan.emit("Softplus", e.value(node.args[0])))


def _softmax(op_type: str) -> Lowering:
    def lower(e: Emitter, node: Node) -> None:
        x = e.value(node.args[0], node.dtype)
        e.put(node, e.plan.emit(op_type, x, axis=int(node.args[1])))

    return lower


def window(value: Arg, rank: int) -> tuple[int, ...]:
    """A stride, padding or size per spatial dimension from one number, a tuple of one, or all."""
    sizes = value if isinstance(value, tuple) else (value,)
    return tuple(int(v) for v in (sizes if len(sizes) == rank else sizes * rank))


def window_attributes(
    kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...]
) -> dict[str, Attribute]:
    """Attributes of a sliding window, without those at ONNX's defaults."""
    found: dict[str, Attribute] = {"kernel_shape": kernel}
    if any(s != 1 for s in stride):
        found["strides"] = stride
    if any(padding):
        found["pads"] = padding if len(padding) == 2 * len(kernel) else (*padding, *padding)
    return found


def _max_pool(e: Emitter, node: Node) -> None:
    _, kernel, stride, padding, dilation, ceil = node.args
    rank = len(node.shape) - 2
    size, spread = window(kernel, rank), window(dilation, rank)
    attributes = window_attributes(size, window(stride or kernel, rank), window(padding, rank))
    if any(d != 1 for d in spread):
        attributes["dilations"] = spread
    reach = tuple(d * (k - 1) + 1 for d, k in zip(spread, size, strict=True))
    if ceil and _rounds_up(e, node, reach):
        attributes["ceil_mode"] = 1
    x, codes = e.moved(node.args[0])
    e.put(node, e.plan.emit("MaxPool", x, **attributes), codes)


def _rounds_up(e: Emitter, node: Node, reach: tuple[int, ...]) -> bool:
    """Whether ceil_mode adds a window: torch drops one that would lie in the padding alone."""
    rank = len(reach)
    steps, pads = window(node.args[2] or node.args[1], rank), window(node.args[3], rank)
    sizes = zip(e.shape(node.args[0])[2:], reach, steps, pads, strict=True)
    return node.shape[2:] != tuple((n + 2 * p - r) // s + 1 for n, r, s, p in sizes)


def _avg_pool(e: Emitter, node: Node) -> None:
    _, kernel, stride, padding, ceil, include_pad = node.args[:6]
    if len(node.args) > 6 and node.args[6] is not None:
        raise unsupported(node, f"divisor_override={node.args[6]}")
    rank = len(node.shape) - 2
    size, pads = window(kernel, rank), window(padding, rank)
    if size == e.shape(node.args[0])[2:] and not any(pads):
        _global_average(e, node)
        return
    attributes = window_attributes(size, window(stride or kernel, rank), pads)
    if ceil and _rounds_up(e, node, size):
        attributes["ceil_mode"] = 1
    if include_pad and any(pads):
        attributes["count_include_pad"] = 1
    e.put(node, e.plan.emit("AveragePool", e.value(node.args[0]), **attributes))


def _adaptive_avg_pool(e: Emitter, node: Node) -> None:
    size, target = e.shape(node.args[0])[2:], node.shape[2:]
    if all(t == 1 for t in target):
        _global_average(e, node)
        return
    if any(s % t for s, t in zip(size, target, strict=True)):
        raise unsupported(node, f"output {target} of input {size}, which it does not divide")
    kernel = tuple(s // t for s, t in zip(size, target, strict=True))
    x = e.value(node.args[0])
    e.put(node, e.plan.emit("AveragePool", x, **window_attributes(kernel, kernel, ())))


def _global_average(e: Emitter, node: Node) -> None:
    e.put(node, e.plan.emit("GlobalAveragePool", e.value(node.args[0])))


def _mean(e: Emitter, node: Node) -> None:
    """A mean over all spatial dimensions is the global pool, which has an integer kernel."""
    shape = e.shape(node.args[0])
    axes = tuple(sorted(int(d) % len(shape) for d in node.args[1] or range(len(shape))))
    if len(shape) in (3, 4) and axes == tuple(range(2, len(shape))):
        pooled = e.plan.emit("GlobalAveragePool", e.value(node.args[0]))
        e.put(node, pooled if node.args[2] else e.plan.emit("Flatten", pooled))
        return
    _reduce(e, node, "ReduceMean", axes, bool(node.args[2]))


def _mean_of_all(e: Emitter, node: Node) -> None:
    e.put(node, e.plan.emit("ReduceMean", e.value(node.args[0]), keepdims=0))


def _sum(e: Emitter, node: Node) -> None:
    shape = e.shape(node.args[0])
    axes = tuple(int(d) % len(shape) for d in node.args[1] or range(len(shape)))
    _reduce(e, node, "ReduceSum", axes, bool(node.args[2]))


def _reduce(e: Emitter, node: Node, op_type: str, axes: tuple[int, ...], keep: bool) -> None:
    inputs = (e.value(node.args[0], node.dtype), e.plan.integers(axes))
    e.put(node, e.plan.emit(op_type, *inputs, **({} if keep else {"keepdims": 0})))


def _argmax(e: Emitter, node: Node) -> None:
    x, dim, keep = e.value(node.args[0]), node.args[1], bool(node.args[2])
    if dim is None:
        x, dim, keep = e.plan.emit("Reshape", x, e.plan.integers((-1,))), 0, False
    e.put(node, e.plan.emit("ArgMax", x, axis=int(dim), keepdims=int(keep)))


def _filled(number: float) -> Lowering:
    def lower(e: Emitter, node: Node) -> None:
        shape = e.plan.integers(node.shape)
        e.put(node, e.plan.emit("Expand", e.value(number, node.dtype), shape))

    return lower


def _attention(e: Emitter, node: Node) -> None:
    """softmax(q k^T / sqrt(d) + mask) v, as scaled_dot_product_attention without dropout."""
    query, key, value, mask, _, causal = node.args[:6]
    length, keys = e.shape(query)[-2], e.shape(key)[-2]
    rank = len(e.shape(key))
    turned = (*range(rank - 2), rank - 1, rank - 2)
    scale = e.plan.floats(1.0 / np.sqrt(e.shape(query)[-1]))
    scores = e.plan.emit(
        "MatMul",
        e.plan.emit("Mul", e.value(query), scale),
        e.plan.emit("Transpose", e.value(key), perm=turned),
    )
    if causal:
        future = np.triu(np.full((length, keys), -np.inf, np.float32), 1)
        scores = e.plan.emit("Add", scores, e.plan.floats(future))
    if mask is not None:
        added, reads_any = _additive(e, mask)
        scores = e.plan.emit("Add", scores, added)
    found = e.plan.emit("MatMul", e.plan.emit("Softmax", scores), e.value(value))
    if mask is not None:
        found = e.plan.emit("Where", reads_any, found, e.plan.floats(0.0))
    e.put(node, found)


def _additive(e: Emitter, mask: Arg) -> tuple[str, str]:
    """The mask as finite numbers to add to scores, and which rows read anything.

    In a row that is masked as a whole torch gives zeros, where a softmax of nothing but -inf is NaN. Both
    results depend on the mask alone, so a runtime computes them once where the mask is stored.
    """
    lowest = e.plan.floats(float(np.finfo(np.float32).min))
    nothing = e.plan.floats(-np.inf)
    if e.dtype(mask) == "bool":
        given = e.plan.emit("Where", e.value(mask), e.plan.floats(0.0), nothing)
    else:
        given = e.value(mask, "float32")
    largest = e.plan.emit("ReduceMax", given, e.plan.integers((-1,)))
    return e.plan.emit("Max", given, lowest), e.plan.emit("Greater", largest, nothing)


def unsupported(node: Node, what: str) -> ExportError:
    """The error for an operator that has a lowering, but not for these arguments."""
    return ExportError(f"{node.op} (value {node.name!r}) with {what} has no ONNX lowering")


_ARITHMETIC: dict[str, Lowering] = {
    "add.Tensor": _binary("Add"),
    "sub.Tensor": _binary("Sub"),
    "mul.Tensor": _binary("Mul"),
    "div.Tensor": _binary("Div"),
    "add.Scalar": _binary("Add"),
    "sub.Scalar": _binary("Sub"),
    "mul.Scalar": _binary("Mul"),
    "div.Scalar": _binary("Div"),
    "rsub.Scalar": _reversed_subtraction,
    "pow.Tensor_Scalar": _binary("Pow"),
    "maximum.default": _binary("Max"),
    "minimum.default": _binary("Min"),
    "matmul.default": _binary("MatMul"),
    "bmm.default": _binary("MatMul"),
    "neg.default": _direct("Neg"),
    "abs.default": _direct("Abs"),
    "exp.default": _direct("Exp"),
    "log.default": _direct("Log"),
    "sqrt.default": _direct("Sqrt"),
    "rsqrt.default": _reciprocal_root,
    "reciprocal.default": _direct("Reciprocal"),
    "erf.default": _direct("Erf"),
    "clamp.default": _clamp,
    "clamp_min.default": _clamp,
    "zeros_like.default": _filled(0.0),
    "ones_like.default": _filled(1.0),
}

_ACTIVATIONS: dict[str, Lowering] = {
    "relu.default": _direct("Relu"),
    "relu6.default": _relu6,
    "hardtanh.default": _clamp,
    "leaky_relu.default": _leaky_relu,
    "elu.default": _elu,
    "gelu.default": _direct("Gelu"),
    "silu.default": _silu,
    "sigmoid.default": _direct("Sigmoid"),
    "tanh.default": _direct("Tanh"),
    "hardswish.default": _direct("HardSwish"),
    "hardsigmoid.default": _direct("HardSigmoid", alpha=1 / 6, beta=0.5),
    "softplus.default": _softplus,
    "mish.default": _direct("Mish"),
    "softmax.int": _softmax("Softmax"),
    "_softmax.default": _softmax("Softmax"),
    "log_softmax.int": _softmax("LogSoftmax"),
    "_log_softmax.default": _softmax("LogSoftmax"),
}

_POOLS: dict[str, Lowering] = {
    "max_pool1d.default": _max_pool,
    "max_pool2d.default": _max_pool,
    "avg_pool1d.default": _avg_pool,
    "avg_pool2d.default": _avg_pool,
    "adaptive_avg_pool1d.default": _adaptive_avg_pool,
    "adaptive_avg_pool2d.default": _adaptive_avg_pool,
    "mean.dim": _mean,
    "mean.default": _mean_of_all,
    "sum.dim_IntList": _sum,
    "argmax.default": _argmax,
    "scaled_dot_product_attention.default": _attention,
}

OPERATORS = {f"aten.{n}": f for n, f in (_ARITHMETIC | _ACTIVATIONS | _POOLS).items()}
"""Lowerings by operator; those that read weights or move values are in `layers` and `layouts`."""
