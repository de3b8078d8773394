"""The parts of a network's latency, each in the seconds that a device's preset gives it.

A padded-channel roofline, taken apart: how long convolutions on integer kernels take, how long
layout changes do, and so on. The preset's latency is the sum of the parts; a calibrated latency is
the same sum with one factor per part, fitted to measurements: the models stay linear.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping
from operator import attrgetter

from paredown.hardware_models.devices.device import Device
from paredown.hardware_models.work.alignment import (
    held_bits,
    is_dequantised,
    layout_changes,
    runs_alone,
    weight_level,
)
from paredown.hardware_models.work.computing import CONVOLUTIONS, computing_s
from paredown.hardware_models.work.steps import add_steps
from paredown.hardware_models.work.workload import OperatorWork, Work

STEP_PARTS = (
    "recurrent_calls", "steps", "step_outputs", "step_macs", "int8_step_macs", "step_traffic",
    "int8_step_traffic",
)  # fmt: skip
"""Parts that recurrent layers alone have."""
PARTS = (
    "run", "calls", "move_calls", "reshape_calls", "attention_calls", "attention_heads",
    "linear_calls", "int8_linear_calls", "sequence_calls", "conv_calls", "int8_conv_calls",
    "depthwise_calls", "int8_depthwise_calls", "conv_macs", "int8_conv_macs", "pointwise_macs",
    "int8_pointwise_macs", "misaligned_macs", "int8_misaligned_macs", "im2col", "int8_im2col",
    "int8_conv_elements", "int8_conv_outputs", "depthwise_macs", "int8_depthwise_macs",
    "wide_depthwise_macs", "int8_wide_depthwise_macs", "grouped_im2col", "linear_macs",
    "int8_linear_macs", "int8_linear_outputs", "narrow_linear_macs", "weight_traffic",
    "int8_weight_traffic", "far_weight_traffic", "int8_far_weight_traffic", "hidden_weight_traffic",
    "activation_traffic", "attention", "attention_softmax", "add", "int8_add", "activation", "norm",
    "move", "quantize_calls", "quantize_elements", "dequantize_elements", "reorder_calls",
    "reorder_elements", "int8_weights", "int4_weights", "linear_weights",
    *STEP_PARTS,
)  # fmt: skip
"""Names of the parts, in the order of every feature vector."""

_ATTENTION_KERNELS = 3
"""Kernels that run one attention: two products and a softmax; ONNX Runtime fuses the transpose."""
_PRODUCTS = CONVOLUTIONS | {"linear", "gates", "matmul", "attention"}
_FACTS = attrgetter(
    "kind", "macs", "activation_bits", "onnx_type", "integer", "in_channels",
    "out_channels", "kernel_size", "groups", "input_elements", "output_elements", "weight_count",
    "out_spatial", "batch", "group_size",
)  # fmt: skip
"""All of an operator that its parts depend on, but for the layout around it."""
_Facts = tuple[Hashable, ...]
_MOST_KNOWN = 100_000  # kinds of operators that a preset keeps; with more it begins anew


class Preset:
    """Seconds of operators as the device file gives them, by part; those alike are priced once.

    Ceiling model of Williams et al. 2009, doi:10.1145/1498765.1498785, on padded channels: a
    product counts either as computing or as moving its data, whichever is slower. Weights are read
    from the level of memory that holds all of them, because every inference walks them all; a
    `level` is its index, and None finds it from the work's own weights.
    """

    def __init__(self, device: Device, threads: int = 1) -> None:
        self.device, self.threads = device, threads
        self._numbers: dict[_Facts, int] = {}
        self._parts: list[Mapping[str, float]] = []

    def __reduce__(self) -> tuple[type[Preset], tuple[Device, int]]:
        """Without what is priced again."""
        return Preset, (self.device, self.threads)

    def total_s(self, work: Work) -> Mapping[str, float]:
        """Seconds of every part in `PARTS`: one run, and all operators."""
        total = dict.fromkeys(PARTS, 0.0)
        total["run"] = self.device.overheads.run_s.value
        for number, count in Counter(self._price(work, None)).items():
            for name, seconds in self._parts[number].items():
                total[name] += count * seconds
        return total

    def operators_s(self, work: Work, level: int | None = None) -> list[Mapping[str, float]]:
        """Seconds of every operator by part; parts that an operator has nothing of are left out."""
        return [self._parts[number] for number in self._price(work, level)]

    def weighted_s(
        self, work: Work, factors: Mapping[str, float], level: int | None = None
    ) -> list[float]:
        """Seconds of every operator: its parts times their factors."""
        numbers = self._price(work, level)
        sums = {n: sum(factors[p] * s for p, s in self._parts[n].items()) for n in set(numbers)}
        return [sums[number] for number in numbers]

    def _price(self, work: Work, level: int | None) -> list[int]:
        """Which of `_parts` each operator has."""
        if level is None:
            level = weight_level(work, self.device)
        if len(self._parts) >= _MOST_KNOWN:
            self._numbers, self._parts = {}, []
        blocked: set[str] = set()
        alone: set[str] = set()
        found: list[int] = []
        for op in work.operators:
            is_reordered = layout_changes(op, self.device, blocked)
            is_fused = op.fused
            if is_fused and (alone or op.kind == "add"):  # for all others the answer is known
                is_fused = not runs_alone(op, blocked, alone)
            facts = (level, is_reordered, is_fused, *_FACTS(op))
            number = self._numbers.get(facts)
            if number is None:
                number = self._numbers[facts] = len(self._parts)
                parts = _parts_s(op, self.device, self.threads, level, is_reordered, is_fused)
                self._parts.append(parts)
            found.append(number)
        return found


def _parts_s(
    op: OperatorWork, device: Device, threads: int, level: int, is_reordered: bool, is_fused: bool
) -> Mapping[str, float]:
    speed = 1 + (threads - 1) * device.runtime.thread_efficiency.value
    parts: dict[str, float] = defaultdict(float)
    if is_reordered:
        parts["reorder_calls"] += device.edges.reorder_s.value
        parts["reorder_elements"] += op.input_elements * device.edges.reorder_element_s.value
    if op.kind in ("quantize", "dequantize"):
        parts["quantize_calls"] += device.edges.quantize_s.value
        elements_s = op.output_elements * device.edges.quantize_element_s.value
        parts[f"{op.kind}_elements"] += elements_s
    elif op.kind in _PRODUCTS:
        _add_call(parts, op, device)
        dequantised = is_dequantised(op, device)
        if dequantised:
            _add_weight_dequantize(parts, op, device, speed)
        bytes_per_s = device.memory.levels[level].bytes_per_s.value
        _add_product(parts, op, device, speed, bytes_per_s, dequantised, far=level > 0)
    elif op.kind == "recurrent":
        add_steps(parts, op, device, device.memory.levels[level].bytes_per_s.value)
    elif op.kind == "reshape":
        parts["reshape_calls"] += device.overheads.other_s.value
    elif not is_fused:
        _add_elementwise(parts, op, device, speed)
    return dict(parts)


def _add_call(parts: dict[str, float], op: OperatorWork, device: Device) -> None:
    overheads = device.overheads
    if op.kind == "gates":
        return  # the operator of the steps computes them
    if op.kind == "depthwise_conv":
        part = "depthwise_calls"
        seconds = overheads.int8_depthwise_s if op.integer else overheads.float_depthwise_s
    elif op.kind in CONVOLUTIONS:
        part = "conv_calls"
        if math.prod(op.kernel_size) == 1:
            seconds = overheads.int8_pointwise_s if op.integer else overheads.float_pointwise_s
        else:
            seconds = overheads.int8_conv_s if op.integer else overheads.float_conv_s
    elif op.kind == "attention":
        parts["attention_calls"] += _ATTENTION_KERNELS * overheads.other_s.value
        # Both products of each head are calls of their own, inside the kernels.
        parts["attention_heads"] += 2 * op.batch * op.in_channels * overheads.other_s.value
        return
    else:
        part, seconds = "linear_calls", overheads.other_s
        if op.out_spatial > 1:
            # A Gemm is of two dimensions: a sequence is reshaped on its way in and out.
            parts["sequence_calls"] += 2 * overheads.other_s.value
    parts["int8_" + part if op.integer else part] += seconds.value


def _add_product(
    parts: dict[str, float],
    op: OperatorWork,
    device: Device,
    speed: float,
    bytes_per_s: float,
    dequantised: bool,
    far: bool,
) -> None:
    """The computing of one product, or its traffic where that is slower."""
    computing = computing_s(op, device, dequantised)
    bits = 8 if op.integer else 32
    # Dequantised weights are read as floats, fresh from the cache.
    weight_bits = bits if dequantised else held_bits(op, device)
    weights_s = op.weight_count * weight_bits / 8 / bytes_per_s
    elements_s = (op.input_elements + op.output_elements) * bits / 8 / bytes_per_s
    prefix = "int8_" if op.integer else ""
    if sum(computing.values()) / speed >= weights_s + elements_s:
        for part, seconds in computing.items():
            parts[part] += seconds / speed
        if far and op.kind in ("linear", "gates"):
            # Streamed from afar beside the products, of which a core hides only a share.
            parts["hidden_weight_traffic"] += weights_s
    else:
        parts[f"{prefix}{'far_' if far else ''}weight_traffic"] += weights_s
        parts["activation_traffic"] += elements_s
    _add_beside_product(parts, op, device, speed, "int8_im2col" in computing)


def _add_beside_product(
    parts: dict[str, float], op: OperatorWork, device: Device, speed: float, has_columns: bool
) -> None:
    """The softmax of an attention, and codes that integer kernels read and write."""
    if op.kind == "attention":
        # Each score takes a product of the head's width, and so does each of the sums it weighs.
        rows = op.batch * op.in_channels * op.out_spatial
        scores = rows * op.macs / (2 * max(1, op.output_elements))
        parts["attention_softmax"] += scores * device.elements.softmax_s.value / speed
    if op.integer and op.kind == "linear":
        outputs_s = op.output_elements * device.elements.activation_s.value
        parts["int8_linear_outputs"] += outputs_s / speed
    if op.integer and op.kind in CONVOLUTIONS:
        element_s = device.elements.add_s.value / speed
        if has_columns:
            # Columns say already that codes are read. What is written is a quarter of a float.
            parts["int8_conv_outputs"] += op.output_elements * element_s / 4
        else:
            parts["int8_conv_elements"] += (op.input_elements + op.output_elements) * element_s


def _add_weight_dequantize(
    parts: dict[str, float], op: OperatorWork, device: Device, speed: float
) -> None:
    is_byte = op.onnx_type == "int8"
    edges = device.edges
    element_s = edges.int8_weight_element_s if is_byte else edges.int4_weight_element_s
    part = "int8_weights" if is_byte else "int4_weights"
    if op.kind == "linear":
        # Read across its rows, whatever its width.
        part, element_s = "linear_weights", edges.int4_weight_element_s
    parts[part] += op.weight_count * element_s.value / speed


def _add_elementwise(
    parts: dict[str, float], op: OperatorWork, device: Device, speed: float
) -> None:
    elements = device.elements
    element_s = {
        "add": elements.add_s,
        "mul": elements.add_s,
        "activation": elements.activation_s,
        "norm": elements.norm_s,
        "softmax": elements.softmax_s,
        "pool": elements.pool_s,
    }.get(op.kind, elements.move_s)
    counted = op.input_elements if op.kind == "pool" else op.output_elements
    part = {"activation": "activation", "norm": "norm", "softmax": "norm"}.get(op.kind, "move")
    if op.kind in ("add", "mul"):
        part = "int8_add" if op.integer else "add"
    parts[part] += counted * element_s.value / speed
    calls = "move_calls" if part == "move" else "calls"
    parts[calls] += device.overheads.other_s.value
