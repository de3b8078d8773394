"""Scales of 8-bit activations that learn, each a factor on the calibrated one.

Nodes that share a scale share its factor: a value that is only moved keeps its codes, and so its scale.
Scales that mathematics knows (of a softmax, a sigmoid) stay. "lsq" is the gradient of rounding and of
clipping (Esser et al. 2020, arXiv:1902.08153), which is also that of calibrated PACT (Jin et al. 2020,
arXiv:1912.10207); "pact" is that of clipping alone (Choi et al. 2018, arXiv:1805.06085).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from paredown.compressors.training.quantizers.quantizer import Learned
from paredown.spaces.candidates.blueprint import Blueprint
from paredown.spaces.graph.functions import QDQ
from paredown.spaces.graph.graph import Graph, Node, Ref

Activations = Literal["fixed", "lsq", "pact"]
_SCALE, _ZERO_POINT = 1, 2
_SHARE = 0.1
"""Learning rate of ranges as a share of that of weights: they are few, and each moves a whole layer."""


class LearnedScales(nn.Module):
    """The scales of a graph's 8-bit tensors."""

    def __init__(self, graph: Graph, activations: Activations) -> None:
        super().__init__()
        self._shared: dict[str, int] = {}
        self.by_rounding = activations == "lsq"
        rows: dict[tuple[float, int], int] = {}
        rounding = (
            [node for node in graph.nodes if node.op == QDQ] if activations != "fixed" else []
        )
        # Also those of a known value that was moved, which are no longer behind what made it.
        known = {_codes(node) for node in rounding if _is_known(graph, node)}
        for node in rounding:
            if _codes(node) not in known:
                self._shared[node.name] = rows.setdefault(_codes(node), len(rows))
        first = torch.tensor([scale for scale, _ in rows], dtype=torch.float64)
        # In the state, as what factors refer to: a model that is trained further has other scales.
        self.register_buffer("first", first)
        self.factors = nn.Parameter(torch.zeros(len(rows)))

    def by_node(self) -> dict[str, Tensor]:
        """The scales of now, shape (), by the names of their nodes."""
        scales = self.get_buffer("first") * self.factors.exp()
        return {name: scales[row] for name, row in self._shared.items()}

    def learned(self) -> Iterator[Learned]:
        """The logarithms of the factors."""
        if len(self.factors):
            yield Learned(self.factors, _SHARE)

    def now(self) -> dict[str, float]:
        """The scales of now by the names of their nodes, as graphs hold them."""
        return {name: float(scale.detach()) for name, scale in self.by_node().items()}


def scales_of(blueprint: Blueprint) -> dict[str, float]:
    """The scales of 8-bit tensors by the names of their nodes; those found in each run have none."""
    return {node.name: node.args[_SCALE] for node in blueprint.graph.nodes if node.op == QDQ}


def with_scales(blueprint: Blueprint, scales: Mapping[str, float]) -> Blueprint:
    """The blueprint with these scales of 8-bit tensors, by the names of their nodes."""
    nodes = [
        node.with_arg(_SCALE, scales[node.name]) if node.name in scales else node
        for node in blueprint.graph.nodes
    ]
    return replace(blueprint, graph=replace(blueprint.graph, nodes=tuple(nodes)))


def with_scales_of(blueprint: Blueprint, other: Blueprint) -> Blueprint:
    """The blueprint with the scales that `other` has, where both round the same tensors."""
    mine, others = scales_of(blueprint), scales_of(other)
    return with_scales(blueprint, others) if mine.keys() == others.keys() else blueprint


def _codes(node: Node) -> tuple[float, int]:
    return node.args[_SCALE], node.args[_ZERO_POINT]


def _is_known(graph: Graph, node: Node) -> bool:
    """Whether the range of what is rounded is known from what made it."""
    source = node.args[0]
    producer = graph.by_name.get(source.name) if isinstance(source, Ref) else None
    return producer is not None and producer.facts.known_codes is not None
