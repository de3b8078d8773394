"""Single operators as ONNX models, read and quantised as an exported file does it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from paredown.hardware_models.latency.table import Signature
from paredown.spaces.structure.quantized_values import reads_narrow_weights

_OPSET = 21
_SCALE = 0.05
NARROW_TYPES: Mapping[str, int] = {"int8": TensorProto.INT8, "int4": TensorProto.INT4}
"""Types of weights that are offered beside float32, with their ONNX numbers."""


def operator_model(wanted: Signature, repeats: int = 1) -> bytes | None:
    """An ONNX file with one operator, or a chain of it where its output fits its input.

    None where a signature alone does not give a model: convolutions over one dimension or over
    images that are not square, transposed ones, linear layers that read narrow weights as they are,
    and weights of types that are not offered.
    """
    if wanted.kind not in ("conv", "depthwise_conv", "linear"):
        return None
    if wanted.onnx_type != "float32" and wanted.onnx_type not in NARROW_TYPES:
        return None
    if wanted.kind == "linear" and wanted.onnx_type != "float32" and not wanted.integer:
        rows, count = wanted.batch * wanted.out_spatial, wanted.in_channels * wanted.out_channels
        if reads_narrow_weights(rows, count):
            return None
    side = math.isqrt(wanted.out_spatial)
    if wanted.kind != "linear" and (len(wanted.kernel_size) != 2 or side**2 != wanted.out_spatial):
        return None
    graph = _Graph(wanted, side)
    for index in range(repeats):
        graph.add(index)
    return graph.to_bytes()


def empty_model(wanted: Signature) -> bytes:
    """An ONNX file of what the operator's model does besides it: nothing, or codes and back."""
    graph = _Graph(wanted, math.isqrt(wanted.out_spatial))
    graph.out_shape = graph.in_shape
    if not wanted.integer:
        graph.nodes.append(helper.make_node("Identity", ["x"], ["same"]))
        graph.value = "same"
    return graph.to_bytes()


class _Graph:
    """A chain under construction; `value` names what the next operator reads."""

    def __init__(self, wanted: Signature, side: int) -> None:
        self.wanted = wanted
        strides = wanted.stride or (1,)
        rows = max(1, wanted.out_spatial)
        self.in_shape = (
            [wanted.batch * rows, wanted.in_channels]
            if wanted.kind == "linear"
            else [wanted.batch, wanted.in_channels, side * strides[0], side * strides[-1]]
        )
        self.out_shape = (
            [wanted.batch * rows, wanted.out_channels]
            if wanted.kind == "linear"
            else [wanted.batch, wanted.out_channels, side, side]
        )
        self.nodes: list[onnx.NodeProto] = []
        self.tensors = [
            numpy_helper.from_array(np.array(_SCALE, np.float32), "scale"),
            numpy_helper.from_array(np.array(0, np.int8), "zero"),
        ]
        self.value = "x"
        if wanted.integer:
            self._codes("in")

    def add(self, index: int) -> None:
        """Appends the operator once more."""
        wanted, name = self.wanted, f"y{index}"
        inputs = [self.value, self._weight(index)]
        if wanted.kind == "linear":
            node = helper.make_node("Gemm", inputs, [name], transB=1)
        else:
            node = helper.make_node(
                "Conv",
                inputs,
                [name],
                kernel_shape=wanted.kernel_size,
                strides=wanted.stride,
                pads=[k // 2 for k in wanted.kernel_size] * 2,
                group=wanted.groups,
            )
        self.nodes.append(node)
        self.value = name
        if wanted.integer:
            self._codes(f"c{index}")

    def to_bytes(self) -> bytes:
        """The finished file."""
        used = {name for node in self.nodes for name in node.input}
        graph = helper.make_graph(
            self.nodes,
            "probe",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.in_shape)],
            [helper.make_tensor_value_info(self.value, TensorProto.FLOAT, self.out_shape)],
            [tensor for tensor in self.tensors if tensor.name in used],
        )
        opsets = [helper.make_opsetid("", _OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        return bytes(model.SerializeToString())

    def _codes(self, name: str) -> None:
        inputs = [self.value, "scale", "zero"]
        self.nodes.append(helper.make_node("QuantizeLinear", inputs, [f"{name}_q"]))
        inputs = [f"{name}_q", "scale", "zero"]
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [name]))
        self.value = name

    def _weight(self, index: int) -> str:
        """Adds the weight, read as an exported file reads it; its name as the operator reads it."""
        wanted, name = self.wanted, f"w{index}"
        shape = (wanted.out_channels, wanted.in_channels // wanted.groups, *wanted.kernel_size)
        random = np.random.default_rng(index)
        if wanted.onnx_type == "float32":
            values = random.standard_normal(shape).astype(np.float32) / math.sqrt(shape[1])
            self.tensors.append(numpy_helper.from_array(values, name))
            return name
        top = 127 if wanted.onnx_type == "int8" else 7
        codes = random.integers(-top, top + 1, shape)
        kind = NARROW_TYPES[wanted.onnx_type]
        self.tensors.append(helper.make_tensor(name, kind, shape, codes.flatten().tolist()))
        spread = (shape[0],) if wanted.integer else (shape[0], *(1,) * (len(shape) - 1))
        scale = numpy_helper.from_array(np.full(spread, _SCALE, np.float32), f"{name}_scale")
        self.tensors.append(scale)
        # What depends on constants alone is computed once, but never a DequantizeLinear.
        if not wanted.integer:
            self.nodes.append(
                helper.make_node("Cast", [name], [f"{name}_c"], to=TensorProto.FLOAT)
            )
            inputs = [f"{name}_c", f"{name}_scale"]
            self.nodes.append(helper.make_node("Mul", inputs, [f"{name}_f"]))
            return f"{name}_f"
        self.nodes.append(helper.make_node("Cast", [name], [f"{name}_c"], to=TensorProto.INT8))
        inputs = [f"{name}_c", f"{name}_scale"]
        if wanted.kind == "linear":
            # QGemm is fused only where the weight has zero points.
            zeros = numpy_helper.from_array(np.zeros(shape[0], np.int8), f"{name}_zero")
            self.tensors.append(zeros)
            inputs.append(f"{name}_zero")
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{name}_f"], axis=0))
        return f"{name}_f"
