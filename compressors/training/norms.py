"""Batch normalisation behind layers while they train, folded into their scales and biases to be frozen.

Normalised by the statistics of each batch (Ioffe and Szegedy 2015, arXiv:1502.03167), layers bear larger
learning rates. What is stored takes such a norm up without another code: beside one scale for each output
of a layer, gamma / sigma is again a scale for each, and the rest is a bias. So nothing of it is exported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.storage.stored import StoredTensor
from paredown.compressors.training.quantizers.quantizer import Learned, size_of_values
from paredown.compressors.training.trainer import TrainingError
from paredown.spaces.graph.facts import Result
from paredown.spaces.graph.graph import Arguments, Graph, Node, Ref

Norms = Literal["folded", "live"]
"""Whether layers train as they are exported, or with norms behind them that are folded in."""
_KINDS = frozenset({"conv", "conv_transpose", "linear"})
_MOMENTUM = 0.1
"""Share of a batch's statistics in those that are folded; PyTorch's own."""
_EPSILON = 1e-8
"""Added to variances: far below those of any channel that is not constant."""


class LiveNorm(nn.Module):
    """The norm behind one layer, which computes without its bias; at first the identity on what it gave.

    In training mode it has the statistics of the batch, in eval mode the running ones, which are folded.

    Args:
        bias: The layer's, (channels,).
        channel_dim: The dimension of channels in what the layer gives: 1, or -1.
    """

    def __init__(self, bias: Tensor, channel_dim: int) -> None:
        super().__init__()
        self._channel_dim = channel_dim
        self.factor = nn.Parameter(torch.zeros_like(bias))
        self.shift = nn.Parameter(bias.clone())
        self.register_buffer("mean", torch.zeros_like(bias))
        self.register_buffer("variance", torch.ones_like(bias))
        self.register_buffer("first_deviation", self._deviation())

    def start(self, mean: Tensor, variance: Tensor) -> None:
        """Takes these running statistics of the layer without its bias, and computes what it did."""
        with torch.no_grad():
            ratio, bias = self.folded()
            self.get_buffer("mean").copy_(mean)
            self.get_buffer("variance").copy_(variance)
            self.get_buffer("first_deviation").copy_(ratio * self._deviation())
            self.factor.zero_()
            self.shift.copy_(bias + mean * ratio)

    def forward(self, x: Tensor) -> Tensor:
        """What the layer gives without its bias, normalised; of the same shape."""
        rows = x if self._channel_dim == 1 else x.flatten(0, -2)
        # One value has no variance.
        has_variance = rows.numel() > rows.shape[1]
        normed = F.batch_norm(
            rows,
            self.get_buffer("mean"),
            self.get_buffer("variance"),
            self._gain(),
            self.shift,
            training=self.training and has_variance,
            momentum=_MOMENTUM,
            eps=_EPSILON,
        )
        return normed.reshape(x.shape)

    def folded(self) -> tuple[Tensor, Tensor]:
        """The factor of the layer's weights, above 0, and its bias, with the running statistics."""
        ratio = (self._gain() / self._deviation()).detach()
        return ratio, (self.shift - self.get_buffer("mean") * ratio).detach()

    def _gain(self) -> Tensor:
        # Above 0, so that codes keep their signs; of 1 bit, 0 is none of them.
        return self.get_buffer("first_deviation") * self.factor.exp()

    def _deviation(self) -> Tensor:
        return (self.get_buffer("variance") + _EPSILON).sqrt()


class _Normed(NamedTuple):
    """A layer's stored tensors, and the norm behind it."""

    weight: str
    bias: str
    norm: LiveNorm


class LiveNorms(nn.Module):
    """The norms of a model: behind convolutions and linear layers that can take them up; none if folded.

    These have codes with one scale for each output, and a bias; neither is shared, and what they give is
    no output of the network. All other layers keep what they have.
    """

    def __init__(self, model: CompressedModel, norms: Norms) -> None:
        super().__init__()
        self._layers: dict[str, _Normed] = {}
        for node, weight, bias in _layers(model) if norms == "live" else ():
            norm = LiveNorm(model.stored[bias].values, _channel_dim(node))
            self.add_module(str(len(self._layers)), norm)
            self._layers[node.name] = _Normed(weight, bias, norm)

    @property
    def biases(self) -> frozenset[str]:
        """Stored tensors whose place the norms take."""
        return frozenset(layer.bias for layer in self._layers.values())

    def behind(
        self, node: Node, arguments: Arguments, compute: Callable[[Node, Arguments], Result]
    ) -> Result:
        """What `compute` gives of the node, normalised where it has a norm."""
        layer, position = self._layers.get(node.name), _bias_position(node)
        if layer is None or position is None:
            return compute(node, arguments)
        bare = (*arguments[:position], None, *arguments[position + 1 :])
        normed: Tensor = layer.norm(compute(node, bare))
        return normed

    def observe(self, model: CompressedModel, batches: Iterable[Sequence[Tensor]]) -> None:
        """Starts with the statistics of `model`, the view frozen now, on these inputs."""
        seen: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in self._layers}

        def _after(node: Node, _: Arguments, output: Result) -> Result:
            if node.name in seen and isinstance(output, Tensor):
                channels = output.movedim(_channel_dim(node), 0).flatten(1)
                seen[node.name].append(torch.var_mean(channels, dim=1, correction=0))
            return output

        with torch.no_grad():
            for inputs in batches:
                model(inputs, after=_after)
        for name, moments in seen.items():
            if moments:
                variances, means = (torch.stack(part) for part in zip(*moments, strict=True))
                layer = self._layers[name]
                mean = means.mean(dim=0) - model.stored[layer.bias].values
                layer.norm.start(mean, variances.mean(dim=0) + means.var(dim=0, correction=0))

    def learned(self) -> Iterator[Learned]:
        """The logarithms of the gains, and the shifts by their size."""
        for layer in self._layers.values():
            yield Learned(layer.norm.factor, 1.0)
            yield Learned(layer.norm.shift, size_of_values(layer.norm.shift.detach()))

    def folded(self, stored: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
        """The tensors with the norms in scales and biases; codes are the same."""
        found = dict(stored)
        for layer in self._layers.values():
            ratio, bias = layer.norm.folded()
            scale = stored[layer.weight].scale
            assert scale is not None
            found[layer.weight] = replace(stored[layer.weight], scale=scale * ratio)
            found[layer.bias] = replace(stored[layer.bias], values=bias)
        return found


def check_norms(norms: Norms, graph: Graph) -> None:
    """Nothing, where layers of this uncompressed network may have such norms, or none are wanted.

    Raises:
        TrainingError: However its layers are stored, none of them can take a norm up.
    """
    if norms == "live" and not any(_may_have_norm(graph, node) for node in graph.nodes):
        raise TrainingError(
            "recovery.recipe.norms must be folded for a network without any convolution or linear layer "
            "that has a bias and gives no output of the network, got live; leave it out"
        )


def _layers(model: CompressedModel) -> Iterator[tuple[Node, str, str]]:
    """Nodes that have norms behind them, each with its weight and bias."""
    graph, storage = model.blueprint.graph, model.blueprint.storage
    for operator in model.blueprint.operators:
        node, weight, bias = graph.by_name[operator.node], operator.weight, operator.bias
        if node.facts.layer is None or bias is None or not _may_have_norm(graph, node):
            continue
        is_alone = len(graph.users[weight]) == len(graph.users[bias]) == 1
        has_row_scales = storage[weight].scale_shape == storage[bias].shape
        if is_alone and has_row_scales and storage[weight].axis == node.facts.layer.out_axis:
            yield node, weight, bias


def _may_have_norm(graph: Graph, node: Node) -> bool:
    position = _bias_position(node)
    if node.facts.kind not in _KINDS or position is None:
        return False
    return isinstance(node.args[position], Ref) and node.name not in graph.outputs


def _bias_position(node: Node) -> int | None:
    return None if node.facts.layer is None else node.facts.layer.bias


def _channel_dim(node: Node) -> int:
    assert node.facts.layer is not None
    return node.facts.layer.channel_dim
