"""ONNX lowerings of operators with weights: convolutions, linear layers, embeddings and norms.

What ONNX Runtime 1.31 fuses, as measured on its CPU provider:
- Conv: int8 weights without zero points and a float bias become QLinearConv when the output is
  quantised; the runtime rounds the bias to int32 itself, so the file keeps it in float.
- Gemm and MatMul fuse into QGemm only where the weight has zero points, and, with a float output,
  only where the bias is int32 already. Gemm with transB beats MatMul and Add on 2-D inputs.
- Integer weights under float activations fuse into MatMulNBits from MatMul, never from Gemm; its
  default accuracy level rounds activations to 8 bits in blocks.
- What depends on constants alone is computed when the model is loaded, but never a DequantizeLinear:
  `weights.Reading` lists the forms of a weight that follow from it.
"""

from __future__ import annotations

import math

import numpy as np

from paredown.compressors.models.codes import codes_source, gives_activated_floats
from paredown.compressors.onnx.arithmetic import Lowering, unsupported
from paredown.compressors.onnx.dynamic_codes import find_range, lower_by_range
from paredown.compressors.onnx.emitter import Emitter
from paredown.compressors.onnx.plan import Attribute
from paredown.compressors.onnx.pools import window, window_attributes
from paredown.compressors.onnx.weights import Reading
from paredown.spaces.graph.graph import Arg, Node, Ref
from paredown.spaces.structure.dynamic_values import reads_own_range
from paredown.spaces.structure.quantized_values import reads_narrow_weights


def _conv(e: Emitter, node: Node) -> None:
    x, weight, bias, stride, padding, dilation, groups = node.args
    kernel = e.shape(weight)[2:]
    rank = len(kernel)
    spread = window(dilation, rank)
    named = isinstance(padding, str)
    pads = _named_padding(padding, kernel, spread) if named else window(padding, rank)
    attributes = _conv_attributes(kernel, window(stride, rank), pads)
    _set_spread(attributes, spread, groups)
    inputs = (e.value(x), e.convolved(node), *_bias(e, bias))
    e.put(node, e.plan.emit("Conv", *inputs, **attributes))


def _conv_transpose(e: Emitter, node: Node) -> None:
    x, weight, bias, stride, padding, output_padding, groups, dilation = node.args
    kernel = e.shape(weight)[2:]
    rank = len(kernel)
    steps, pads, more = (window(each, rank) for each in (stride, padding, output_padding))
    # ONNX Runtime extends the output by less than a step; leaving out padding at the end is the same.
    if any(m >= s for m, s in zip(more, steps, strict=True)):
        ends = tuple(p - m for p, m in zip(pads, more, strict=True))
        if min(ends) < 0:
            raise unsupported(node, f"output_padding={more} of steps {steps} and padding {pads}")
        pads, more = (*pads, *ends), (0,) * rank
    attributes = _conv_attributes(kernel, steps, pads)
    _set_spread(attributes, window(dilation, rank), groups)
    if any(more):
        attributes["output_padding"] = more
    inputs = (e.value(x), e.convolved(node), *_bias(e, bias))
    e.put(node, e.plan.emit("ConvTranspose", *inputs, **attributes))


def _conv_attributes(
    kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...]
) -> dict[str, Attribute]:
    attributes = window_attributes(kernel, stride, padding)
    attributes.pop("kernel_shape")  # inferred from the weight
    return attributes


def _set_spread(attributes: dict[str, Attribute], dilation: tuple[int, ...], groups: Arg) -> None:
    if any(d != 1 for d in dilation):
        attributes["dilations"] = dilation
    if groups != 1:
        attributes["group"] = int(groups)


def _named_padding(
    padding: str, kernel: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[int, ...]:
    """Pads before and after each dimension; of an odd total, torch puts the extra one after."""
    if padding == "valid":
        return (0,) * (2 * len(kernel))
    totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    return (*(t // 2 for t in totals), *(t - t // 2 for t in totals))


def _bias(e: Emitter, bias: Arg) -> tuple[str, ...]:
    return () if bias is None else (e.weight(bias),)


def _linear(e: Emitter, node: Node) -> None:
    x, weight, bias = node.args
    if reads_own_range(e.graph, node):
        lower_by_range(e, node)
        return
    source = codes_source(e.graph, x.name)
    storage = e.storage.get(weight.name)
    stays_float = source is not None and storage is not None and storage.stays_float
    widens = source is not None and (stays_float or gives_activated_floats(e.graph, node))
    # Beside codes the runtime tries another kernel than that for narrow weights, and 2 bits fail.
    reading = "folded" if widens else _reading(e, node, source is not None)
    integer = reading == "codes"
    terms: tuple[str, ...] = ()
    if integer and bias is not None and source is not None:
        terms = (e.bias_codes(bias, weight, source),)
    elif bias is not None:
        terms = _bias(e, bias)
    if len(node.shape) == 2 and reading != "narrow" and not stays_float:
        turned = e.is_read_transposed(weight)
        inputs = (e.value(x), e.weight(weight, turned, reading, zero_point=integer), *terms)
        e.put(node, e.plan.emit("Gemm", *inputs, **({} if turned else {"transB": 1})))
        return
    product = e.plan.emit("MatMul", e.value(x), _transposed(e, weight, reading))
    # ONNX Runtime makes a Gemm of a product and an Add, and a Gemm reads no narrow weights.
    # Nor are weights of a Gemm between codes left floats: it rounds them with scales of its own.
    plus = "Sum" if reading == "narrow" or stays_float else "Add"
    e.put(node, e.plan.emit(plus, product, *terms) if terms else product)


def _reading(e: Emitter, node: Node, is_integer: bool) -> Reading:
    storage = e.storage.get(node.args[1].name)
    if storage is None or storage.onnx_type == "float32":
        return "folded"
    if is_integer:
        return "codes"
    # ONNX Runtime 1.31 misreads 2-bit rows that end inside a byte when it fuses them (MatMulNBits)
    torn = storage.onnx_type == "int2" and storage.shape[0] % 4 != 0
    rows = math.prod(node.shape[:-1])
    return "narrow" if reads_narrow_weights(rows, storage.count) and not torn else "folded"


def _transposed(e: Emitter, weight: Ref, reading: Reading) -> str:
    if weight.name not in e.storage:
        return e.plan.emit("Transpose", e.weight(weight), perm=(1, 0))
    return e.weight(weight, transposed=True, reading=reading, zero_point=reading == "codes")


def _embedding(e: Emitter, node: Node) -> None:
    table, places = node.args[:2]
    indices = _indices(e, places)
    if table.name in e.graph.values:
        e.put(node, e.plan.emit("Gather", e.value(table), indices))
        return
    rank = len(e.shape(places))
    e.put(node, e.weights.rows(table.name, indices, rank, e.is_read_transposed(table)))


def _indices(e: Emitter, arg: Arg) -> str:
    return e.value(arg) if e.dtype(arg) == "int32" else e.value(arg, "int64")


def _prelu(e: Emitter, node: Node) -> None:
    slope = node.args[1]
    count = e.shape(slope)[0]
    dims = (count, *(1,) * (len(node.shape) - 2)) if count > 1 else (1,)
    e.put(node, e.plan.emit("PRelu", e.value(node.args[0]), e.reshaped(slope, dims)))


def _batch_norm(e: Emitter, node: Node) -> None:
    x, weight, bias, mean, variance, _, _, epsilon, _ = node.args
    scale, shift = _affine(e, weight, bias, (node.shape[1],))
    inputs = (e.value(x), scale, shift, e.value(mean), e.value(variance))
    e.put(node, e.plan.emit("BatchNormalization", *inputs, epsilon=float(epsilon)))


def _layer_norm(e: Emitter, node: Node) -> None:
    x, shape, weight, bias, epsilon = node.args[:5]
    dims = tuple(int(s) for s in shape)
    scale = e.plan.floats(np.ones(dims, np.float32)) if weight is None else e.value(weight)
    inputs = (e.value(x), scale, *_bias(e, bias))
    attributes: dict[str, Attribute] = {} if len(dims) == 1 else {"axis": -len(dims)}
    e.put(node, e.plan.emit("LayerNormalization", *inputs, **attributes, epsilon=float(epsilon)))


def _group_norm(e: Emitter, node: Node) -> None:
    x, groups, weight, bias, epsilon = node.args[:5]
    scale, shift = _affine(e, weight, bias, (node.shape[1],))
    attributes: dict[str, Attribute] = {"num_groups": int(groups), "epsilon": float(epsilon)}
    e.put(node, e.plan.emit("GroupNormalization", e.value(x), scale, shift, **attributes))


def _instance_norm(e: Emitter, node: Node) -> None:
    x, weight, bias, _, _, use_input, _, epsilon, _ = node.args
    if not use_input:
        raise unsupported(node, "running statistics")
    scale, shift = _affine(e, weight, bias, (node.shape[1],))
    inputs = (e.value(x), scale, shift)
    e.put(node, e.plan.emit("InstanceNormalization", *inputs, epsilon=float(epsilon)))


def _affine(e: Emitter, weight: Arg, bias: Arg, shape: tuple[int, ...]) -> tuple[str, str]:
    ones, zeros = np.ones(shape, np.float32), np.zeros(shape, np.float32)
    return (
        e.plan.floats(ones) if weight is None else e.value(weight),
        e.plan.floats(zeros) if bias is None else e.value(bias),
    )


LAYERS: dict[str, Lowering] = {
    "find_range": find_range,
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "linear": _linear,
    "embedding": _embedding,
    "prelu": _prelu,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
}
"""Lowerings of operators that read stored tensors."""
