"""Peak memory of activations, by the lifetimes of tensors in execution order.

Tensors that exist as 8-bit codes take one byte an element, floats four. Two figures: the most that
is alive at once, which no plan can beat, and what a simple static planner reaches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from paredown.hardware_models.kinds import SPLITS
from paredown.hardware_models.precision import Precision, read_precision
from paredown.spaces.blueprint import Blueprint
from paredown.spaces.graph import QDQ, Node

ALIGNMENT_BYTES = 64
# Operators that may write over an input of the same size once nobody else needs it.
_IN_PLACE = frozenset({"activation", "add", "mul"})


@dataclass(frozen=True, kw_only=True)
class PeakMemory:
    """Bytes of activations, graph inputs and outputs included, weights and workspaces not."""

    lower_bound_bytes: int
    planned_bytes: int


@dataclass(frozen=True, kw_only=True)
class Lifetime:
    """One buffer: alive from step `first` to step `last`, both included."""

    size_bytes: int
    first: int
    last: int


def peak_activation_bytes(blueprint: Blueprint) -> PeakMemory:
    """Peak memory of one inference at the graph's batch size."""
    lifetimes = buffer_lifetimes(blueprint)
    return PeakMemory(
        lower_bound_bytes=live_bytes(lifetimes), planned_bytes=planned_bytes(lifetimes)
    )


def live_bytes(lifetimes: Sequence[Lifetime]) -> int:
    """Largest sum of the buffers alive at one step."""
    # The sum only rises where a buffer starts.
    starts = {buffer.first for buffer in lifetimes}
    return max(
        (sum(b.size_bytes for b in lifetimes if b.first <= step <= b.last) for step in starts),
        default=0,
    )


def planned_bytes(lifetimes: Sequence[Lifetime]) -> int:
    """Arena of a static plan: buffers by falling size, each at the lowest offset that is free.

    Greedy by size of Pisarchyk and Lee 2020, arXiv:2001.03288, with offsets aligned to 64 bytes.
    """
    placed: list[tuple[int, int, Lifetime]] = []
    for buffer in sorted(lifetimes, key=lambda b: (-b.size_bytes, b.first)):
        size = -(-buffer.size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        offset = 0
        for start, end, other in sorted(placed, key=lambda item: item[0]):
            overlaps = other.first <= buffer.last and buffer.first <= other.last
            if not overlaps or end <= offset:
                continue
            if offset + size <= start:
                break
            offset = end
        placed.append((offset, offset + size, buffer))
    return max((end for _, end, _ in placed), default=0)


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
        if node.name not in precision.integer and node.op != QDQ:
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
    if node.op in SPLITS:  # no data of its own: its pieces are copied out by `getitem`
        return inputs[0]
    if node.op == QDQ:
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
