"""ONNX lowerings of comparisons, logic, numbers made from sizes, and picking values by place."""

from __future__ import annotations

import numpy as np
import torch

from paredown.compressors.onnx.arithmetic import COMPUTED_AS, Lowering, unsupported
from paredown.compressors.onnx.emitter import Emitter
from paredown.spaces.graph.graph import Arg, Node, Ref


def _common_type(e: Emitter, *args: Arg) -> str:
    """The type in which torch compares or combines these values and numbers."""
    examples = [
        torch.empty(1, dtype=getattr(torch, e.dtype(a))) if isinstance(a, Ref) else a for a in args
    ]
    return str(torch.result_type(*examples)).removeprefix("torch.")


def _compared(op_type: str, opposite: bool = False) -> Lowering:
    def lower(e: Emitter, node: Node) -> None:
        dtype = _common_type(e, *node.args[:2])
        if dtype == "bool" and op_type != "Equal":
            dtype = "int32"
        dtype = COMPUTED_AS.get(dtype, dtype)
        result = e.plan.emit(op_type, *(e.value(arg, dtype) for arg in node.args[:2]))
        e.put(node, e.plan.emit("Not", result) if opposite else result)

    return lower


def _logical(op_type: str) -> Lowering:
    def lower(e: Emitter, node: Node) -> None:
        e.put(node, e.plan.emit(op_type, *(_truth(e, arg) for arg in node.args)))

    return lower


def _truth(e: Emitter, arg: Arg) -> str:
    return e.value(arg, "bool")


def _bitwise(op_type: str) -> Lowering:
    """Of truth values it is the logic of the same name."""

    def lower(e: Emitter, node: Node) -> None:
        name = op_type if node.dtype == "bool" else f"Bitwise{op_type}"
        e.put(node, e.plan.emit(name, *(e.value(arg, node.dtype) for arg in node.args)))

    return lower


def _where(e: Emitter, node: Node) -> None:
    condition, *branches = node.args
    e.put(
        node,
        e.plan.emit("Where", _truth(e, condition), *(e.value(b, node.dtype) for b in branches)),
    )


def _masked_fill(e: Emitter, node: Node) -> None:
    x, mask, number = node.args
    branches = e.value(number, node.dtype), e.value(x, node.dtype)
    e.put(node, e.plan.emit("Where", _truth(e, mask), *branches))


def _arange(e: Emitter, node: Node) -> None:
    bounds = (e.sizes.number(each, node.dtype) for each in node.args[:3])
    e.put(node, e.plan.emit("Range", *bounds))


def _full(e: Emitter, node: Node) -> None:
    e.put(
        node,
        e.plan.emit("Expand", e.value(node.args[1], node.dtype), e.sizes.listed(node.args[0])),
    )


def _full_like(e: Emitter, node: Node) -> None:
    shape = e.shape_as(node.args[0], node.shape)
    e.put(node, e.plan.emit("Expand", e.value(node.args[1], node.dtype), shape))


def _gather(e: Emitter, node: Node) -> None:
    x, dim, index = node.args[:3]
    axis = int(dim) % max(1, len(e.shape(x)))
    e.put(node, e.plan.emit("GatherElements", e.value(x), e.value(index), axis=axis))


def _index_select(e: Emitter, node: Node) -> None:
    x, dim, index = node.args
    e.put(node, e.plan.emit("Gather", e.value(x), e.value(index), axis=int(dim) % len(e.shape(x))))


def _index(e: Emitter, node: Node) -> None:
    """Values at places that tensors of whole numbers give, for one or more dimensions together."""
    x, given = node.args
    places = {axis: index for axis, index in enumerate(given) if index is not None}
    if any(e.dtype(index) not in ("int64", "int32") for index in places.values()):
        raise unsupported(node, "places that are truth values")
    if len(places) == 1:
        ((axis, index),) = places.items()
        e.put(node, e.plan.emit("Gather", e.value(x), e.value(index), axis=axis))
        return
    first, rank = min(places), len(e.shape(x))
    ranks = [len(e.shape(index)) for index in places.values()]
    source, order = e.value(x), (*places, *(a for a in range(rank) if a not in places))
    if order != tuple(range(rank)):
        source = e.plan.emit("Transpose", source, perm=order)
    picked = e.plan.emit("GatherND", source, _together(e, list(places.values()), max(ranks)))
    # Neighbouring dimensions are replaced where they were, others in front.
    if first > 0 and list(places) == list(range(first, first + len(places))):
        width = max(ranks)
        order = (
            *range(width, width + first),
            *range(width),
            *range(width + first, len(node.shape)),
        )
        picked = e.plan.emit("Transpose", picked, perm=order)
    e.put(node, picked)


def _together(e: Emitter, indices: list[Ref], rank: int) -> str:
    """Indices broadcast to one shape (..., 1) each, side by side in the last dimension."""
    values = [e.value(index, "int64") for index in indices]
    total = values[0]
    for value in values[1:]:
        total = e.plan.emit("Add", total, value)
    shape, last = e.plan.emit("Shape", total), e.plan.integers((-1,))
    wide = (e.plan.emit("Expand", value, shape) for value in values)
    columns = (e.plan.emit("Unsqueeze", value, last) for value in wide)
    return e.plan.emit("Concat", *columns, axis=rank)


def _cumsum(e: Emitter, node: Node) -> None:
    x, dim = node.args[:2]
    e.put(node, e.plan.emit("CumSum", e.value(x, node.dtype), e.plan.integer(int(dim))))


def _roll(e: Emitter, node: Node) -> None:
    """Each dimension cut in two, and the parts exchanged."""
    x, shifts, dims = node.args
    if not dims:
        raise unsupported(node, "no dimensions")
    found = e.value(x)
    for shift, dim in zip(shifts, dims, strict=True):
        axis = e.plan.integers((int(dim) % len(node.shape),))
        cut = e.plan.integers((-int(shift),))
        start, end = e.plan.integers((0,)), e.plan.integers((np.iinfo(np.int64).max,))
        parts = (
            e.plan.emit("Slice", found, cut, end, axis),
            e.plan.emit("Slice", found, start, cut, axis),
        )
        found = e.plan.emit("Concat", *parts, axis=int(dim) % len(node.shape))
    e.put(node, found)


def _repeat(e: Emitter, node: Node) -> None:
    x, times = node.args
    found = e.value(x)
    if missing := len(times) - len(e.shape(x)):
        found = e.plan.emit("Unsqueeze", found, e.plan.integers(tuple(range(missing))))
    e.put(node, e.plan.emit("Tile", found, e.sizes.listed(times)))


def _variance(e: Emitter, node: Node) -> None:
    x, dims, correction, keep = (
        (*node.args, None, False)[:4]
        if len(node.args) != 3
        else (
            *node.args,
            False,
        )
    )
    shape = e.shape(x)
    axes = tuple(int(d) % len(shape) for d in dims or range(len(shape)))
    if e.graph.free and set(axes) & {0, 1}:
        raise unsupported(node, "dimensions that may have any length")
    listed = e.plan.integers(axes)
    value = e.value(x)
    spread = e.plan.emit("Sub", value, e.plan.emit("ReduceMean", value, listed))
    squares = e.plan.emit("Mul", spread, spread)
    total = e.plan.emit("ReduceSum", squares, listed, **({} if keep else {"keepdims": 0}))
    count = int(np.prod([shape[axis] for axis in axes]))
    free = count - (1 if correction is None else correction)
    e.put(node, e.plan.emit("Div", total, e.value(float(free), node.dtype)))


def _rounded_quotient(e: Emitter, node: Node) -> None:
    x, y, mode = (*node.args, None)[:3]
    dtype = _common_type(e, x, y)
    quotient = e.plan.emit("Div", e.value(x, "float64"), e.value(y, "float64"))
    if mode is not None:
        quotient = e.plan.emit("Floor", quotient) if mode == "floor" else _cut(e, quotient)
    e.put(node, e.cast(quotient, "float64", node.dtype if mode is None else dtype))


def _cut(e: Emitter, quotient: str) -> str:
    """Rounded towards zero."""
    size = e.plan.emit("Floor", e.plan.emit("Abs", quotient))
    return e.plan.emit("Mul", size, e.plan.emit("Sign", quotient))


def _remainder(e: Emitter, node: Node) -> None:
    """With the sign of the divisor: x - floor(x / y) y."""
    x, y = (e.value(arg, node.dtype) for arg in node.args)
    if "float" not in node.dtype:
        e.put(node, e.plan.emit("Mod", x, y))
        return
    whole = e.plan.emit("Floor", e.plan.emit("Div", x, y))
    e.put(node, e.plan.emit("Sub", x, e.plan.emit("Mul", whole, y)))


LOGIC: dict[str, Lowering] = {
    "less": _compared("Less"),
    "at_most": _compared("LessOrEqual"),
    "greater": _compared("Greater"),
    "at_least": _compared("GreaterOrEqual"),
    "equal": _compared("Equal"),
    "unequal": _compared("Equal", opposite=True),
    "bitwise_and": _bitwise("And"),
    "bitwise_or": _bitwise("Or"),
    "bitwise_xor": _bitwise("Xor"),
    "bitwise_not": _bitwise("Not"),
    "logical_and": _logical("And"),
    "logical_or": _logical("Or"),
    "logical_xor": _logical("Xor"),
    "logical_not": _logical("Not"),
    "where": _where,
    "masked_fill": _masked_fill,
    "range": _arange,
    "full": _full,
    "full_like": _full_like,
    "gather": _gather,
    "index": _index,
    "index_select": _index_select,
    "cumsum": _cumsum,
    "roll": _roll,
    "repeat": _repeat,
    "variance": _variance,
    "rounded_quotient": _rounded_quotient,
    "remainder": _remainder,
}
"""Lowerings of comparisons, logic and places."""
