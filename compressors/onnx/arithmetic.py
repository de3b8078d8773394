"""ONNX lowerings of arithmetic and activations."""

from __future__ import annotations

from collections.abc import Callable

from paredown.compressors.onnx.emitter import Emitter
from paredown.compressors.onnx.plan import Attribute, ExportError
from paredown.spaces.graph.facts import OnnxRename
from paredown.spaces.graph.graph import Arg, Node

Lowering = Callable[[Emitter, Node], None]


# Of truth values torch makes these of the arithmetic; ONNX has arithmetic of numbers alone.
_LOGIC = {"Add": "Or", "Mul": "And", "Max": "Or", "Min": "And"}
# Results wrap or round afterwards.
COMPUTED_AS = {"int8": "int32", "uint8": "int32", "int16": "int32", "bfloat16": "float32"}
"""Types that ONNX Runtime has no arithmetic of, and what takes their place."""


def lower_renamed(rename: OnnxRename, e: Emitter, node: Node) -> None:
    """The same operator of the same operands, in the type that torch gives the result.

    An alpha behind two operands scales the second.
    """
    if node.facts.operands == 2:
        _combine(e, node, rename.op_type, *node.args)
    else:
        x = e.value(node.args[0], node.dtype)
        e.put(node, e.plan.emit(rename.op_type, x, **dict(rename.attributes)))


def _reversed_subtraction(e: Emitter, node: Node) -> None:
    """`args[1] - alpha * args[0]`."""
    subtrahend, minuend, alpha = node.args
    _combine(e, node, "Sub", minuend, subtrahend, alpha)


def _combine(
    e: Emitter, node: Node, op_type: str, first: Arg, second: Arg, alpha: Arg = 1
) -> None:
    dtype = COMPUTED_AS.get(node.dtype, node.dtype)
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


def _gelu(e: Emitter, node: Node) -> None:
    x, *approximate = node.args
    kind: dict[str, Attribute] = {} if approximate in ([], ["none"]) else {"approximate": "tanh"}
    e.put(node, e.plan.emit("Gelu", e.value(x, node.dtype), **kind))


def _silu(e: Emitter, node: Node) -> None:
    x = e.value(node.args[0])
    e.put(node, e.plan.emit("Mul", x, e.plan.emit("Sigmoid", x)))


_STRAIGHT = 17
"""Above this a softplus is its argument to single precision, exp(-17) / 17 being half a unit of it."""


def _softplus(e: Emitter, node: Node) -> None:
    """log(1 + exp(beta x)) / beta, which torch takes as x itself above a threshold of beta x."""
    _, beta, threshold = node.args
    x = e.value(node.args[0], node.dtype)
    scaled = x if beta == 1 else e.plan.emit("Mul", x, e.value(beta, node.dtype))
    soft = e.plan.emit("Softplus", scaled)
    soft = soft if beta == 1 else e.plan.emit("Div", soft, e.value(beta, node.dtype))
    if threshold < _STRAIGHT:
        is_above = e.plan.emit("Greater", scaled, e.value(threshold, node.dtype))
        soft = e.plan.emit("Where", is_above, x, soft)
    e.put(node, soft)


def _softmax(op_type: str) -> Lowering:
    def _lower(e: Emitter, node: Node) -> None:
        x = e.value(node.args[0], node.dtype)
        e.put(node, e.plan.emit(op_type, x, axis=int(node.args[1])))

    return _lower


def _filled(number: float) -> Lowering:
    def _lower(e: Emitter, node: Node) -> None:
        shape = e.shape_as(node.args[0], node.shape)
        e.put(node, e.plan.emit("Expand", e.value(number, node.dtype), shape))

    return _lower


def unsupported(node: Node, what: str) -> ExportError:
    """The error for an operator that has a lowering, but not for these arguments."""
    return ExportError(f"{node.op} (value {node.name!r}) with {what} has no ONNX lowering")


ARITHMETIC: dict[str, Lowering] = {
    "reversed_subtraction": _reversed_subtraction,
    "reciprocal_root": _reciprocal_root,
    "clamp": _clamp,
    "relu6": _relu6,
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "gelu": _gelu,
    "silu": _silu,
    "softplus": _softplus,
    "softmax": _softmax("Softmax"),
    "log_softmax": _softmax("LogSoftmax"),
    "zeros": _filled(0.0),
    "ones": _filled(1.0),
}
"""Lowerings of arithmetic and activations that are more than another name."""
