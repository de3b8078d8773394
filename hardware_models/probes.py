"""Single operators as ONNX models: what a kernel takes, where channels align, what really runs.

A search space is only as honest as its device file. Probes hold the file's claims against the
machine: that channels off the multiple are slower, that padded widths cost the same, that integer
kernels exist and pay.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from paredown.hardware_models.device import Device
from paredown.hardware_models.latency import RooflineLatency
from paredown.hardware_models.measure import measure_latencies
from paredown.hardware_models.table import PRODUCTS, Signature, TableEntry, signature
from paredown.hardware_models.workload import Work
from paredown.spaces.quantized_values import reads_narrow_weights

_OPSET = 21
_SCALE = 0.05
_TYPES: Mapping[str, int] = {"int8": TensorProto.INT8, "int4": TensorProto.INT4}
_SAME = 0.15
"""Relative difference below which two probes are said to take the same time."""
_SHORTEST_S = 5e-8
"""Least seconds an operator is given: differences of two timings may come out below zero."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One claim of a device file and what this machine says: `ratio` of two measured times."""

    claim: str
    ratio: float
    holds: bool


def operator_model(wanted: Signature, repeats: int = 1) -> bytes | None:
    """An ONNX file with one operator, or a chain of it where its output fits its input.

    None where a signature alone does not give a model: convolutions over one dimension or over
    images that are not square, transposed ones, linear layers that read narrow weights as they are,
    and weights of types that are not offered.
    """
    if wanted.kind not in ("conv", "depthwise_conv", "linear"):
        return None
    if wanted.onnx_type != "float32" and wanted.onnx_type not in _TYPES:
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
        kind = _TYPES[wanted.onnx_type]
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


def measure_table(
    works: Sequence[Work], device: Device, threads: int = 1, instances: int = 2
) -> tuple[TableEntry, ...]:
    """Entries for every operator with a weight that the works hold and that can stand alone.

    An operator's seconds are those of its one-operator model less those of a model that does
    nothing to an input of that size: the plain look-up table of the literature (nn-Meter's
    baseline, Zhang et al. 2021), which counts the edges of a network once for each operator.
    """
    preset = RooflineLatency(device, threads)
    found: dict[Signature, float] = {}
    for work in works:
        for op, seconds in zip(work.operators, preset.operators_s(work), strict=True):
            if op.kind in PRODUCTS:
                found.setdefault(signature(op), float(seconds))
    models = {s: model for s in found if (model := operator_model(s)) is not None}
    empty = {s: _empty_model(s) for s in models}
    measured = measure_latencies(
        [*models.values(), *empty.values()], threads=threads, instances=instances, blocks=15
    )
    times = [each.mean_s for each in measured]
    return tuple(
        TableEntry(
            signature=each,
            seconds=max(_SHORTEST_S, times[i] - times[len(models) + i]),
            preset_s=max(_SHORTEST_S, found[each]),
        )
        for i, each in enumerate(models)
    )


def probe_alignment(device: Device, threads: int = 1) -> tuple[Probe, ...]:
    """Whether 3x3 convolutions align as the device file says, in float and on integers."""
    multiple = device.alignment.multiple
    found: list[Probe] = []
    for integer, block in ((False, device.alignment.float_block), (True, _int8_block(device))):
        if integer and 8 not in device.offers.activation_bits:
            continue
        what = "8-bit" if integer else "float"
        # Two blocks, the same off the multiple, and one multiple above a single block.
        aligned, odd, padded = 2 * block, 2 * block - 1, block + multiple
        widths = [aligned, odd, padded]
        times = _slopes([_square(width, integer) for width in widths], threads)
        if multiple > 1:
            ratio = times[1] / times[0]
            claim = f"{what}: {odd} channels are slower than {aligned}"
            found.append(Probe(claim=claim, ratio=ratio, holds=ratio > 1 + _SAME))
        if block > multiple:
            ratio = times[2] / times[0]
            claim = f"{what}: {padded} channels cost what {aligned} do"
            found.append(Probe(claim=claim, ratio=ratio, holds=abs(ratio - 1) < 2 * _SAME))
    return tuple(found)


def probe_kernels(device: Device, threads: int = 1) -> tuple[Probe, ...]:
    """Whether the kernels that the device file offers as fast are so, against the float ones."""
    found: list[Probe] = []
    if 8 not in device.offers.activation_bits:
        return ()
    cases = {
        "3x3 convolution of 64 channels": _square(64, True),
        "1x1 convolution of 128 channels": _square(128, True, kernel=1),
        "linear layer 512 x 512": _linear(512, True),
    }
    for name, integer in cases.items():
        plain = _as_float(integer)
        fast, slow = _slopes([integer, plain], threads)
        claim = f"8-bit {name} is faster"
        found.append(Probe(claim=claim, ratio=fast / slow, holds=fast < slow * (1 - _SAME)))
    for onnx_type in device.offers.onnx_types:
        if onnx_type not in _TYPES:
            continue
        stored = _square(64, False, onnx_type=onnx_type)
        held, plain_s = _slopes([stored, _as_float(stored)], threads)
        claim = f"3x3 convolution with {onnx_type} weights alone costs what a float one does"
        ratio = held / plain_s
        found.append(Probe(claim=claim, ratio=ratio, holds=abs(ratio - 1) < 2 * _SAME))
    return tuple(found)


def _slopes(signatures: Sequence[Signature], threads: int) -> list[float]:
    """Seconds of one operator in a chain: a quarter of what seven take beyond three."""
    models = []
    for each in signatures:
        for repeats in (3, 7):
            model = operator_model(each, repeats)
            assert model is not None
            models.append(model)
    found = measure_latencies(models, threads=threads, instances=3, blocks=20)
    times = [each.mean_s for each in found]
    pairs = zip(times[::2], times[1::2], strict=True)
    return [max(_SHORTEST_S, (long - short) / 4) for short, long in pairs]


def _square(
    channels: int, integer: bool, kernel: int = 3, onnx_type: str = "float32"
) -> Signature:
    return Signature(
        kind="conv",
        integer=integer,
        onnx_type="int8" if integer else onnx_type,
        in_channels=channels,
        out_channels=channels,
        kernel_size=(kernel, kernel),
        stride=(1, 1),
        groups=1,
        out_spatial=256,
        batch=1,
    )


def _linear(width: int, integer: bool) -> Signature:
    conv = _square(width, integer)
    return replace(conv, kind="linear", kernel_size=(), stride=(), out_spatial=1)


def _as_float(wanted: Signature) -> Signature:
    return replace(wanted, integer=False, onnx_type="float32")


def _int8_block(device: Device) -> int:
    return device.alignment.int8_out_block


def _empty_model(wanted: Signature) -> bytes:
    """What the operator's model does besides the operator: nothing, or codes and back."""
    graph = _Graph(wanted, math.isqrt(wanted.out_spatial))
    graph.out_shape = graph.in_shape
    if not wanted.integer:
        graph.nodes.append(helper.make_node("Identity", ["x"], ["same"]))
        graph.value = "same"
    return graph.to_bytes()
