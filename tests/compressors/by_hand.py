"""Compressed models made by hand: weights rounded to nearest, QDQ nodes after given values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paredown.compressors.kernels.kernel_checks import session
from paredown.compressors.models.codes import is_layout
from paredown.compressors.onnx.lowering import lower, output_names
from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.storage.stored import StoredTensor
from paredown.spaces.candidates.blueprint import Blueprint, OnnxType, Operator, Storage
from paredown.spaces.capture.capturing import as_inputs, capture
from paredown.spaces.graph.functions import QDQ
from paredown.spaces.graph.graph import Graph, Node, Ref, rename_value, run

LAYERS = ("aten.conv", "aten.linear", "aten.embedding")
COMPUTES = (
    *LAYERS[:2],
    "aten.add.",
    "aten.mul.",
    "aten.cat",
    "aten.avg_pool",
    "aten.adaptive_avg",
)

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def identity() -> Callable[[nn.Module, Any], CompressedModel]:
    """The uncompressed model of a module."""
    return _identity


@pytest.fixture
def with_weights() -> Callable[..., CompressedModel]:
    """The model with all layers' weights as codes of `bits`, in ONNX as `onnx_type`."""

    def make(model: CompressedModel, bits: int, onnx_type: OnnxType) -> CompressedModel:
        stored = dict(model.stored)
        for operator in model.blueprint.operators:
            transposed = "conv_transpose" in model.blueprint.graph.by_name[operator.node].op
            weight = stored[operator.weight].dense()
            stored[operator.weight] = rounded(weight, bits, onnx_type, axis=int(transposed))
        return _model(model.blueprint.graph, stored)

    return make


@pytest.fixture
def with_codes() -> Callable[..., CompressedModel]:
    """The model with QDQ nodes on every input of a layer, sum, product, cat and pool."""

    def make(model: CompressedModel, inputs: Any) -> CompressedModel:
        graph = model.blueprint.graph
        return _model(_with_qdq(graph, _ranges(model, as_inputs(graph, inputs))), model.stored)

    return make


@pytest.fixture
def run_onnx() -> Callable[..., tuple[np.ndarray, ...]]:
    """Outputs of the model through ONNX Runtime, and the same through our own run."""

    def make(model: CompressedModel, inputs: Any) -> tuple[list[Tensor], list[Tensor]]:
        proto = lower(model)
        tensors = as_inputs(model.blueprint.graph, inputs)
        feeds = {n: t.numpy() for n, t in zip(model.blueprint.graph.inputs, tensors, strict=True)}
        names = list(output_names(model.blueprint.graph))
        found = session(proto.SerializeToString(), exact=True).run(names, feeds)
        with torch.no_grad():
            expected = model(tensors)
        return [torch.from_numpy(np.asarray(f)) for f in found], list(expected)

    return make


@pytest.fixture
def resnet() -> nn.Module:
    return _randomised(SmallResNet())


class Block(nn.Module):
    """A residual block with the parameter-free shortcut of He et al. 2016 (option A)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.grow = outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.grow:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.grow // 2, self.grow // 2))
        return F.relu(y + x)


class SmallResNet(nn.Module):
    """ResNet-(6n + 2) for 32x32 images; n = 3 is ResNet-20."""

    def __init__(self, blocks: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        shapes = [(16, 16, 1)] * blocks + [(16, 32, 2)] + [(32, 32, 1)] * (blocks - 1)
        shapes += [(32, 64, 2)] + [(64, 64, 1)] * (blocks - 1)
        self.layers = nn.Sequential(*(Block(*shape) for shape in shapes))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(F.relu(self.bn1(self.conv1(x))))
        y = F.avg_pool2d(y, y.size()[3])
        return self.linear(y.view(y.size(0), -1))


@pytest.fixture(scope="session")
def resnet_model() -> CompressedModel:
    """A small ResNet captured at a batch size of two; records, so tests may share it."""
    torch.manual_seed(0)
    return _identity(_randomised(SmallResNet()), torch.randn(2, 3, 32, 32))


@pytest.fixture(scope="session")
def resnet20_model() -> CompressedModel:
    torch.manual_seed(0)
    return _identity(_randomised(SmallResNet(blocks=3)), torch.randn(1, 3, 32, 32))


def rounded(weight: Tensor, bits: int, onnx_type: OnnxType, axis: int = 0) -> StoredTensor:
    """Nearest codes with the scale that the largest weight of each channel gives."""
    limit = (1 << (bits - 1)) - 1
    others = [d for d in range(weight.ndim) if d != axis]
    scale = weight.abs().amax(others).clamp_min(1e-8) / limit
    shape = [1] * weight.ndim
    shape[axis] = -1
    codes = torch.round(weight / scale.view(shape)).clamp_(-limit, limit).to(torch.int8)
    storage = Storage(
        shape=tuple(weight.shape),
        bits=bits,
        axis=axis,
        kept=weight.numel(),
        onnx_type=onnx_type,
    )
    return StoredTensor(storage=storage, values=codes, scale=scale)


def _identity(module: nn.Module, example: Any) -> CompressedModel:
    captured = capture(module.eval(), example)
    stored = {n: StoredTensor.unchanged(t) for n, t in captured.tensors.items()}
    return _model(captured.graph, stored)


def _model(graph: Graph, stored: Mapping[str, StoredTensor]) -> CompressedModel:
    operators = tuple(
        Operator(
            node=node.name,
            layer=node.name,
            part=0,
            weight=_weight_of(node),
            bias=_bias_of(node),
            activation_bits=32,
        )
        for node in graph.nodes
        if node.op.startswith(LAYERS)
    )
    used = graph.tensor_names()
    return CompressedModel(
        blueprint=Blueprint(
            graph=graph, operators=operators, storage={n: stored[n].storage for n in used}
        ),
        stored={n: stored[n] for n in used},
    )


def _weight_of(node: Node) -> str:
    return node.args[0 if "embedding" in node.op else 1].name


def _bias_of(node: Node) -> str | None:
    return node.args[2].name if isinstance(node.args[2], Ref) else None


def _randomised(module: nn.Module) -> nn.Module:
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean, std=0.1)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
            nn.init.uniform_(part.weight, -0.5, 1.5)
            nn.init.normal_(part.bias, std=0.1)
    return module.eval()


def _ranges(model: CompressedModel, inputs: list[Tensor]) -> dict[str, tuple[float, int]]:
    """Scale and zero point of every float value, from one run."""
    graph = model.blueprint.graph
    values = dict(zip(graph.inputs, inputs, strict=True))

    def note(node: Node, _: tuple[Any, ...], output: Any) -> Any:
        values[node.name] = output
        return output

    with torch.no_grad():
        run(graph, model.tensors, inputs, after=note)
    found = {}
    for name, value in values.items():
        if isinstance(value, Tensor) and value.is_floating_point():
            low, high = min(float(value.min()), 0.0), max(float(value.max()), 1e-6)
            scale = float(np.float32((high - low) / 255))
            found[name] = (scale, round(-low / scale))
    return found


def _with_qdq(graph: Graph, parameters: Mapping[str, tuple[float, int]]) -> Graph:
    needed = {
        name
        for node in graph.nodes
        if node.op.startswith(COMPUTES)
        for name in node.inputs
        if name in parameters
    }
    nodes = [_qdq(graph, n, parameters) for n in graph.inputs if n in needed]
    for node in graph.nodes:
        args = node.args
        for name in needed & set(node.inputs):
            args = rename_value(args, name, f"{name}_q")
        nodes.append(replace(node, args=args))
        if node.name in needed:
            nodes.append(_qdq(graph, node.name, parameters))
    return replace(graph, nodes=tuple(nodes))


def _qdq(graph: Graph, name: str, parameters: Mapping[str, tuple[float, int]]) -> Node:
    root = name
    while root in graph.by_name and is_layout(graph.by_name[root]):
        root = graph.by_name[root].args[0].name
    scale, zero_point = parameters[root]
    args = (Ref(name), scale, zero_point, 0, 255)
    return Node(name=f"{name}_q", op=QDQ, args=args, shape=graph.shape_of(name))
