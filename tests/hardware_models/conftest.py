from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from paredown.spaces.candidates.blueprint import Blueprint, OnnxType, Operator, Storage
from paredown.spaces.capture.capturing import Captured, capture
from paredown.spaces.graph.functions import QDQ
from paredown.spaces.graph.graph import Graph, Node, Ref, rename_value, run

torch.set_num_threads(1)

WEIGHTED = ("aten.conv", "aten.linear")


class SmallResidual(nn.Module):
    """Every layout that matters: stem, depthwise, residual addition, pooling, head."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.point = nn.Conv2d(width, width, 1)
        self.down = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.head = nn.Linear(2 * width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(self.point(torch.relu(self.depthwise(x))) + x)
        return self.head(torch.relu(self.down(x)).mean((2, 3), keepdim=True).flatten(1))


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.conv2(torch.relu(self.conv1(x))) + x)


@pytest.fixture(scope="session")
def captured() -> Captured:
    torch.manual_seed(0)
    return capture(SmallResidual(), torch.randn(1, 3, 16, 16))


@pytest.fixture(scope="session")
def residual_chain() -> Callable[[int, int], Captured]:
    """Captures a stem and `blocks` residual blocks of one width."""

    def make(blocks: int, width: int) -> Captured:
        torch.manual_seed(0)
        stem = nn.Conv2d(3, width, 3, padding=1)
        net = nn.Sequential(stem, nn.ReLU(), *(Block(width) for _ in range(blocks)))
        return capture(net, torch.randn(1, 3, 16, 16))

    return make


@pytest.fixture(scope="session")
def blueprint_of() -> Callable[..., Blueprint]:
    """The identity blueprint of a capture; `bits` and `onnx_type` are those of every weight."""

    def make(captured: Captured, bits: int = 32, onnx_type: OnnxType = "float32") -> Blueprint:
        operators = []
        storage = {
            name: Storage(shape=tuple(t.shape), kept=t.numel())
            for name, t in captured.tensors.items()
        }
        for node in captured.graph.nodes:
            if not node.op.startswith(WEIGHTED):
                continue
            weight = node.args[1].name
            bias = node.args[2].name if node.args[2] is not None else None
            storage[weight] = replace(storage[weight], bits=bits, onnx_type=onnx_type)
            operators.append(
                Operator(
                    node=node.name,
                    layer=weight.removesuffix(".weight"),
                    part=0,
                    weight=weight,
                    bias=bias,
                    activation_bits=32,
                )
            )
        return Blueprint(graph=captured.graph, operators=tuple(operators), storage=storage)

    return make


@pytest.fixture(scope="session")
def with_codes() -> Callable[..., Blueprint]:
    """A blueprint with a QDQ node on every value that a layer, addition or pooling reads."""

    readers = (*WEIGHTED, "aten.add", "aten.mean")

    def make(blueprint: Blueprint, skip: tuple[str, ...] = ()) -> Blueprint:
        graph = blueprint.graph
        coded: dict[str, str] = {}
        nodes: list[Node] = []
        for node in graph.nodes:
            if node.op.startswith(readers) and node.name not in skip:
                for name in node.inputs:
                    if name not in graph.values:
                        continue
                    if name not in coded:
                        coded[name] = f"{name}_codes"
                        nodes.append(_codes(coded[name], name, graph))
                    node = replace(node, args=rename_value(node.args, name, coded[name]))
            nodes.append(node)
        return replace(blueprint, graph=replace(graph, nodes=tuple(nodes)))

    return make


def _codes(name: str, source: str, graph: Graph) -> Node:
    args: tuple[Any, ...] = (Ref(source), 0.05, 0, 0, 255)
    return Node(name=name, op=QDQ, args=args, shape=graph.shape_of(source))


@pytest.fixture(scope="session")
def shapes_by_running() -> Callable[[Captured], Mapping[str, tuple[Any, ...]]]:
    """(operator, argument shapes, output shape) of every node, seen while the graph runs."""

    def shape(value: Any) -> Any:
        return tuple(value.shape) if isinstance(value, torch.Tensor) else value

    def make(captured: Captured) -> Mapping[str, tuple[Any, ...]]:
        seen: dict[str, tuple[Any, ...]] = {}

        def note(node: Node, arguments: tuple[Any, ...], output: Any) -> Any:
            seen[node.name] = (node.op, tuple(shape(a) for a in arguments), shape(output))
            return output

        graph = captured.graph
        inputs = [
            torch.zeros(size, dtype=getattr(torch, dtype))
            for size, dtype in zip(graph.input_shapes, graph.input_dtypes, strict=True)
        ]
        run(graph, captured.tensors, inputs, after=note)
        return seen

    return make
