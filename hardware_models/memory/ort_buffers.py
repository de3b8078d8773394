"""The buffers that ONNX Runtime's CPU provider allocates for a blueprint, one step per kernel.

The runtime keeps float images in blocks of channels, padded to a block, 8-bit ones with channels
last, and copies where layouts or precisions meet. Rules were read off the kernels and counters of
ONNX Runtime 1.31.1 on AVX-512; workspaces that a kernel allocates and frees itself are not among
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch

from paredown.hardware_models.memory.buffer_sharing import Extent, Step, shared_lifetimes
from paredown.hardware_models.memory.lifetimes import Lifetime
from paredown.hardware_models.work.kinds import groups_of, weight_name
from paredown.hardware_models.work.precision import Precision, read_precision
from paredown.spaces.candidates.blueprint import Blueprint
from paredown.spaces.graph.functions import DYNAMIC_QDQ, GETITEM, QUANTISERS
from paredown.spaces.graph.graph import Node

Form = Literal["plain", "blocked", "codes", "channels_last"]
"""How a value lies in memory: floats, floats in blocks of channels, 8-bit codes, and codes with
channels last."""

_COPIED_FROM: Mapping[Form, Form] = {
    "plain": "blocked",
    "blocked": "plain",
    "codes": "channels_last",
    "channels_last": "codes",
}
_CONVOLUTIONS = ("conv", "depthwise_conv", "conv_transpose")
_KEEPS_BLOCKS = ("add", "mul", "activation", "norm", "resize")
_POOLS_OF_WINDOWS = ("max_pool", "average_pool")  # as they are written to ONNX
_IN_PLACE = ("activation", "add", "mul")
_CHANNEL_MULTIPLE = 4  # more channels than a block enter it in multiples of four, or not at all


def ort_lifetimes(blueprint: Blueprint, block: int) -> tuple[Lifetime, ...]:
    """Buffers of one inference as ONNX Runtime shares them; the caller's inputs live throughout.

    Args:
        blueprint: The model.
        block: Channels of a block of the float layout; 1 where floats lie plain.
    """
    walk = _Walk(blueprint, block)
    for node in blueprint.graph.nodes:
        walk.visit(node)
    outputs = {walk.read(name, "plain") for name in blueprint.graph.outputs}
    return shared_lifetimes(walk.steps, walk.extents, walk.held, outputs)


@dataclass
class _Walk:
    blueprint: Blueprint
    block: int
    extents: list[Extent] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    held: list[int] = field(default_factory=list)
    forms: dict[str, dict[Form, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        graph = self.blueprint.graph
        self.precision: Precision = read_precision(self.blueprint)
        # A layer that alone reads codes of its own range makes them itself.
        self.inside = frozenset(
            node.name
            for node in graph.nodes
            if node.op == DYNAMIC_QDQ and len(graph.users[node.name]) == 1
        )
        self.shapes = dict(zip(graph.inputs, graph.input_shapes, strict=True))
        self.shapes |= {node.name: node.shape for node in graph.nodes}
        for name, dtype in zip(graph.inputs, graph.input_dtypes, strict=True):
            extent = (getattr(torch, dtype).itemsize, *self.shapes[name])
            self.forms[name] = {"plain": self._buffer(extent)}
            self.held.append(self.forms[name]["plain"])

    def visit(self, node: Node) -> None:
        """Adds the steps of one operator."""
        precision = self.precision
        inputs = precision.inputs[node.name]
        if node.name in self.inside:
            self.forms[node.name] = {"plain": self.read(inputs[0], "plain")}
        elif node.op in QUANTISERS:
            self._quantize(node, inputs[0])
        elif node.facts.has_several_outputs:
            self.forms[node.name] = self.forms[inputs[0]]
            self.shapes[node.name] = self.shapes[inputs[0]]
        elif node.name in precision.integer and not self.inside.intersection(inputs):
            self._integer(node, inputs)
        elif node.name in precision.fused and self._is_absorbed(node, inputs):
            return
        elif precision.kinds.get(node.name) in _CONVOLUTIONS:
            self._convolve(node, inputs)
        else:
            self._float(node, inputs)

    def read(self, name: str, form: Form) -> int:
        """The buffer of a value in `form`; a copy is made where it lies in another one."""
        forms = self.forms[name]
        if form in forms:
            return forms[form]
        extent = self._extent(self.shapes[name], form)
        if form == "plain" and "blocked" not in forms:
            # Every reader dequantises for itself.
            return self._step(extent, [self.read(name, "codes")])
        forms[form] = self._step(extent, [self.read(name, _COPIED_FROM[form])])
        return forms[form]

    def _quantize(self, node: Node, source: str) -> None:
        codes = self.precision.codes
        if codes.get(source) == codes[node.name]:
            self.forms[node.name] = self.forms[source]
            return
        read = self.read(source, "plain")
        self.forms[node.name] = {"codes": self._step((1, *node.shape), [read])}

    def _integer(self, node: Node, inputs: tuple[str, ...]) -> None:
        kind = self.precision.kinds.get(node.name)
        form: Form = "codes"
        if kind in _CONVOLUTIONS and len(node.shape) == 4:
            form = "channels_last"
        elif kind not in ("linear", "matmul", "reshape"):
            form = _shared(self.forms[name] for name in inputs) or "codes"
        reads = [self.read(name, form) for name in inputs]
        if kind == "reshape" or node.name in self.precision.fused:
            self.forms[node.name] = {form: reads[0]}
        elif node.name in self.precision.codes:
            over = reads if kind in _IN_PLACE else []
            self.forms[node.name] = {form: self._step(self._extent(node.shape, form), reads, over)}
        else:
            self.forms[node.name] = {"plain": self._step((4, *node.shape), reads)}

    def _is_absorbed(self, node: Node, inputs: tuple[str, ...]) -> bool:
        """Whether the kernel before it has computed the fused operator already."""
        if self.precision.kinds[node.name] == "activation":
            # The sum in front may have become an operator of its own.
            self.forms[node.name] = self.forms[inputs[0]]
            return True
        blocked = all("blocked" in self.forms[name] for name in inputs)
        return blocked and self._take_sum(node, inputs)

    def _take_sum(self, node: Node, inputs: tuple[str, ...]) -> bool:
        made = {step.writes: index for index, step in enumerate(self.steps)}
        last = max(inputs, key=lambda n: made.get(self.forms[n]["blocked"], -1))
        (other,) = [n for n in inputs if n != last] or [last]
        index = made.get(self.forms[last]["blocked"])
        if index is None:
            return False
        step = self.steps[index]
        addend = self.forms[other]["blocked"]
        self.steps[index] = Step(
            reads=(*step.reads, addend), writes=step.writes, over=(*step.over, addend)
        )
        self.forms[node.name] = {"blocked": step.writes}
        return True

    def _convolve(self, node: Node, inputs: tuple[str, ...]) -> None:
        kind = self.precision.kinds[node.name]
        storage = self.blueprint.storage.get(weight_name(node))
        is_folded = kind != "conv_transpose" or inputs[0] not in self.precision.codes
        is_constant = storage is not None and (storage.onnx_type == "float32" or is_folded)
        weights = []
        if storage is not None and not is_constant:
            weights.append(self._step((4, *storage.shape), []))
        entry = self._entry(node, inputs[0]) if is_constant else None
        if entry is None:
            reads = [self.read(inputs[0], "plain"), *weights]
            self.forms[node.name] = {"plain": self._step((4, *node.shape), reads)}
        else:
            read = self.read(inputs[0], entry)
            extent = self._extent(node.shape, "blocked")
            self.forms[node.name] = {"blocked": self._step(extent, [read])}

    def _entry(self, node: Node, source: str) -> Form | None:
        """The form in which a blocked convolution reads its input, None where it is no such one."""
        kind = self.precision.kinds[node.name]
        if self.block == 1 or kind == "conv_transpose" or len(node.shape) != 4:
            return None
        into, groups = self.shapes[source][1], groups_of(node)
        if kind == "depthwise_conv":
            return "blocked" if into >= self.block or "blocked" in self.forms[source] else None
        if groups > 1:
            aligned = (
                into // groups % self.block == 0 and node.shape[1] // groups % self.block == 0
            )
            return "blocked" if aligned else None
        if into < self.block:
            return "plain"
        return "blocked" if into % _CHANNEL_MULTIPLE == 0 else None

    def _float(self, node: Node, inputs: tuple[str, ...]) -> None:
        kind = self.precision.kinds.get(node.name)
        form: Form = "blocked" if self._stays_blocked(node, inputs) else "plain"
        reads = [self.read(name, form) for name in inputs]
        if kind == "reshape" or (kind is None and node.op != GETITEM):
            self.forms[node.name] = {form: reads[0]}
            return
        extent = self._extent(node.shape, form)
        if kind == "attention":
            reads = [self._weights_of_attention(node, reads), self.read(inputs[2], form)]
        if node.facts.is_gated:
            again = self.read(inputs[0], form)
            reads = [again, self._step(extent, reads, reads)]
        over = reads if kind == "activation" else []
        self.forms[node.name] = {form: self._step(extent, reads, over)}

    def _weights_of_attention(self, node: Node, reads: list[int]) -> int:
        """Products of queries and keys, with a mask, then their softmax: each an operator."""
        query, key, _, mask, _, causal = node.args[:6]
        extent = (4, *self.shapes[query.name][:-1], self.shapes[key.name][-2])
        found = self._step(extent, reads)
        for _ in range(bool(causal) + (mask is not None)):
            found = self._step(extent, [found])
        return self._step(extent, [found], [found])

    def _stays_blocked(self, node: Node, inputs: tuple[str, ...]) -> bool:
        if not inputs or len(node.shape) != 4 or self.block == 1:
            return False
        kind = self.precision.kinds.get(node.name)
        all_blocked = all("blocked" in self.forms[name] for name in inputs)
        aligned = all(self.shapes[name][1] % self.block == 0 for name in inputs)
        if kind == "pool":
            windows = node.facts.onnx in _POOLS_OF_WINDOWS
            floats = "codes" not in self.forms[inputs[0]]
            return aligned and (all_blocked or (windows and floats))
        if kind == "concat":
            return all_blocked and aligned
        return kind in _KEEPS_BLOCKS and all_blocked

    def _extent(self, shape: tuple[int, ...], form: Form) -> Extent:
        if form == "blocked":
            channels = -(-shape[1] // self.block) * self.block
            return (4, shape[0], channels, *shape[2:])
        if form == "channels_last":
            return (1, shape[0], *shape[2:], shape[1])
        return (4 if form == "plain" else 1, *shape)

    def _buffer(self, extent: Extent) -> int:
        self.extents.append(extent)
        return len(self.extents) - 1

    def _step(self, extent: Extent, reads: Iterable[int], over: Iterable[int] = ()) -> int:
        written = self._buffer(extent)
        self.steps.append(Step(reads=tuple(reads), writes=written, over=tuple(over)))
        return written


def _shared(forms: Iterable[dict[Form, int]]) -> Form | None:
    """Channels last where any input lies so already."""
    return "channels_last" if any("channels_last" in form for form in forms) else None
