"""ONNX lowerings of what gathers many values into one: pools, reductions and attention."""

from __future__ import annotations

import numpy as np

from paredown.compressors.models.codes import codes_source
from paredown.compressors.onnx.arithmetic import Lowering, unsupported
from paredown.compressors.onnx.emitter import Emitter
from paredown.compressors.onnx.plan import Attribute
from paredown.spaces.graph.graph import Arg, Graph, Node, Ref
from paredown.spaces.structure.code_kernels import clamps_codes


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
    if codes is not None and rank == 2 and not _lies_channels_last(e.graph, node.args[0].name):
        last = e.plan.emit("Transpose", x, perm=(0, 2, 3, 1))
        pooled = e.plan.emit("NhwcMaxPool", last, **attributes)
        e.put(node, e.plan.emit("Transpose", pooled, perm=(0, 3, 1, 2)), codes)
    else:
        e.put(node, e.plan.emit("MaxPool", x, **attributes), codes)


def _lies_channels_last(graph: Graph, value: str) -> bool:
    """Whether codes come from a kernel on codes: convolutions of ONNX Runtime give them channels last.

    Codes of a float result lie channels first, where MaxPool is one loop over single codes:
    behind the first convolution of a ResNet it took 470 us, nearly as long as all the rest. Writing
    the quantiser behind the pool does not help, because ONNX Runtime moves it in front.
    """
    quantiser = codes_source(graph, value)
    assert quantiser is not None
    node = graph.by_name.get(quantiser.args[0].name)
    while node is not None and clamps_codes(node):
        node = graph.by_name.get(node.args[0].name)
    return node is not None and any(codes_source(graph, name) for name in node.inputs)


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
    if size == e.shape(node.args[0])[2:] and not any(pads) and not e.graph.timed:
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


def _attention(e: Emitter, node: Node) -> None:
    """softmax(q k^T / sqrt(d) + mask) v, as scaled_dot_product_attention without dropout."""
    query, key, value, mask, _, causal, scale, grouped = (*node.args, None, False)[:8]
    rank, width = len(e.shape(key)), e.shape(query)[-1]
    turned = (*range(rank - 2), rank - 1, rank - 2)
    factor = e.plan.floats(1.0 / np.sqrt(width) if scale is None else scale)
    keys, values = (_for_all_heads(e, node, each, bool(grouped)) for each in (key, value))
    scores = e.plan.emit(
        "MatMul",
        e.plan.emit("Mul", e.value(query), factor),
        e.plan.emit("Transpose", keys, perm=turned),
    )
    if causal:
        scores = e.plan.emit("Add", scores, _future(e, query, key))
    if mask is not None:
        added, reads_any = _additive(e, mask)
        scores = e.plan.emit("Add", scores, added)
    found = e.plan.emit("MatMul", e.plan.emit("Softmax", scores), values)
    if mask is not None:
        found = e.plan.emit("Where", reads_any, found, e.plan.floats(0.0))
    e.put(node, found)


def _for_all_heads(e: Emitter, node: Node, shared: Ref, grouped: bool) -> str:
    """Keys or values (batch, heads, length, width), repeated for the query heads that share them."""
    heads, all_heads = e.shape(shared)[-3], node.shape[-3]
    if not grouped or heads == all_heads:
        return e.value(shared)
    places = tuple(at // (all_heads // heads) for at in range(all_heads))
    axis = len(e.shape(shared)) - 3
    return e.plan.emit("Gather", e.value(shared), e.plan.integers(places), axis=axis)


def _future(e: Emitter, query: Ref, key: Ref) -> str:
    """What is added to scores so that no place reads a later one: (length, keys)."""
    length, keys = e.shape(query)[-2], e.shape(key)[-2]
    if not e.graph.free:
        return e.plan.floats(np.triu(np.full((length, keys), -np.inf, np.float32), 1))
    counts = (e.plan.emit("Shape", e.value(each), start=-2, end=-1) for each in (query, key))
    shape = e.plan.emit("Concat", *counts, axis=0)
    nothing = e.plan.emit("Expand", e.plan.floats(-np.inf), shape)
    return e.plan.emit("Trilu", nothing, e.plan.integer(1), upper=1)


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


POOLS: dict[str, Lowering] = {
    "max_pool": _max_pool,
    "average_pool": _avg_pool,
    "adaptive_average_pool": _adaptive_avg_pool,
    "mean": _mean,
    "mean_of_all": _mean_of_all,
    "sum": _sum,
    "argmax": _argmax,
    "attention": _attention,
}
"""Lowerings of pools, reductions and attention."""
