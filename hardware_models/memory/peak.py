"""Peak memory of activations, by the lifetimes of tensors in execution order.

Tensors that exist as 8-bit codes take one byte an element, floats four. Two figures: the most that
is alive at once, which no plan can beat, and what a simple static planner reaches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from paredown.hardware_models.devices.device import Device
from paredown.hardware_models.memory.lifetimes import Lifetime, live_bytes, planned_bytes
from paredown.hardware_models.memory.ort_buffers import ort_lifetimes
from paredown.hardware_models.work.precision import Precision, read_precision
from paredown.spaces.candidates.blueprint import Blueprint
from paredown.spaces.graph.functions import QUANTISERS
from paredown.spaces.graph.graph import Node

ONNX_RUNTIME = "onnxruntime"
# Operators that may write over an input of the same size once nobody else needs it.
_IN_PLACE = frozenset({"activation", "add", "mul"})


@dataclass(frozen=True, kw_only=True)
class PeakMemory:
    """Bytes of activations, graph inputs and outputs included, weights and workspaces not."""

    lower_bound_bytes: int
    planned_bytes: int


def peak_activation_bytes(blueprint: Blueprint, device: Device | None = None) -> PeakMemory:
    """Peak memory of one inference at the graph's batch size.

    With a device under ONNX Runtime its own layouts, copies and sharing of buffers count; `planned`
    is then what its counters show, for it allocates each buffer by itself. Elsewhere, or without a
    device, tensors lie plain and a static planner places them.
    """
    if device is not None and device.runtime.name == ONNX_RUNTIME:
        bytes_alive = live_bytes(ort_lifetimes(blueprint, device.memory.float_block_channels))
        return PeakMemory(lower_bound_bytes=bytes_alive, planned_bytes=bytes_alive)
    lifetimes = buffer_lifetimes(blueprint)
    return PeakMemory(
        lower_bound_bytes=live_bytes(lifetimes), planned_bytes=planned_bytes(lifetimes)
    )


def buffer_lifetimes(blueprint: Blueprint) -> tuple[Lifetime, ...]:
    """One lifetime per buffer; values that share memory share a buffer.

    Layout changes without a copy, codes written by the kernel before their QDQ node, and
    elementwise operators whose input dies there reuse the buffer of their input. Codes that a
    float kernel reads need a float copy while it runs. Graph inputs belong to the caller and are
    never written over.
    """
    graph = blueprint.graph
    precision = read_precision(blueprint)
    last_use = _last_uses(blueprint, precision)
    sizes = _input_sizes(blueprint)
    root = {name: name for name in graph.inputs}
    first = dict.fromkeys(graph.inputs, 0)
    last = {name: last_use.get(name, 0) for name in graph.inputs}
    copies: list[Lifetime] = []
    for step, node in enumerate(graph.nodes, start=1):
        size = math.prod(node.shape) * (1 if node.name in precision.codes else 4)
        source = _reused(node, size, step, precision, sizes, root, last)
        name = root[node.name] = root[source] if source else node.name
        if not source:
            sizes[name], first[name], last[name] = size, step, step
        last[name] = max(last[name], last_use.get(node.name, step))
        if node.name not in precision.integer and node.op not in QUANTISERS:
            read = {root[n]: n for n in precision.inputs[node.name] if n in precision.codes}
            copies += [Lifetime(size_bytes=4 * sizes[n], first=step, last=step) for n in read]
    buffers = [Lifetime(size_bytes=sizes[n], first=first[n], last=last[n]) for n in first]
    return (*buffers, *copies)


def _last_uses(blueprint: Blueprint, precision: Precision) -> Mapping[str, int]:
    graph = blueprint.graph
    last: dict[str, int] = {}
    for step, node in enumerate(graph.nodes, start=1):
        for name in precision.inputs[node.name]:
            last[name] = step
    last.update(dict.fromkeys(graph.outputs, len(graph.nodes) + 1))
    return last


def _input_sizes(blueprint: Blueprint) -> dict[str, int]:
    graph = blueprint.graph
    facts = zip(graph.inputs, graph.input_shapes, graph.input_dtypes, strict=True)
    return {
        name: math.prod(shape) * getattr(torch, dtype).itemsize for name, shape, dtype in facts
    }


def _reused(
    node: Node,
    size: int,
    step: int,
    precision: Precision,
    sizes: Mapping[str, int],
    root: Mapping[str, str],
    last: Mapping[str, int],
) -> str | None:
    """The input whose buffer the node's result takes over, None where it needs one of its own."""
    inputs = precision.inputs[node.name]
    kind = precision.kinds.get(node.name)
    if (
        node.facts.has_several_outputs
    ):  # no data of its own: its pieces are copied out by `getitem`
        return inputs[0]
    if node.op in QUANTISERS:
        same = precision.codes.get(inputs[0]) == precision.codes[node.name]
        return inputs[0] if same else None
    for name in inputs:
        buffer = root[name]
        if sizes[buffer] != size:
            continue
        is_callers = buffer not in precision.inputs
        if kind == "reshape" or (kind in _IN_PLACE and not is_callers and last[buffer] <= step):
            return name
    return None
