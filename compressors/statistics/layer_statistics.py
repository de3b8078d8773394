"""Calibration statistics of every layer: input moments, output moments and loss curvature.

One pass over the calibration batches serves every solver: the Gram matrix of the inputs weighs
errors, the means and deviations are what statistics repair restores, and the Gram matrix of the
output gradients turns a layer's error into a predicted increase of the loss (K-FAC).

Memory does not grow with the data: inputs are unfolded in chunks of at most 16 MiB (one sample, if
that is more), and a layer of fan-in K and R outputs keeps 8 (K^2 + R^2) bytes of sums, K^2 / groups
for a grouped convolution, 512 K for more than 12,288 inputs, K for an embedding and R for more than
8,192 outputs, such as a vocabulary; and 8 R K more for the curvature of each weight.
While a chunk is added, half of that is needed again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import repeat

import torch
from torch import Tensor

from paredown.compressors.statistics.drawn_labels import Target, draw_labels
from paredown.compressors.statistics.layer_sums import LayerSums, gradient_shape
from paredown.compressors.statistics.padding import RealValues
from paredown.compressors.statistics.steps import state_product
from paredown.compressors.storage.shelf import digest
from paredown.spaces.graph.facts import Result
from paredown.spaces.graph.graph import Arguments, Graph, Node, run
from paredown.spaces.structure.model_map import Layer
from paredown.spaces.system.errors import ParedownError

Loss = Callable[[tuple[Tensor, ...], Target], Tensor]
Watch = Callable[[str, Result, Tensor | None], None]
"""Is given every value by name, and which of it is real where rows are padded."""


class StatisticsError(ParedownError):
    """Calibration data gave nothing to count."""


@dataclass(frozen=True, kw_only=True)
class LayerStatistics:
    """What calibration says about one layer; float64, for weights (out, K) in matrix view.

    Calls of the same weight count as further positions, independent of each other.

    `gram` is E[x x^T] over positions (samples x output positions): (K, K), or (groups, K, K) for
    grouped convolutions; of more than 12,288 inputs it is a root (n, K) of it, from at most 512
    positions (`compressors/matrix/algebra.py`). `input_mean` is E[x]: (K,) or (groups, K).
    `output_mean` and `output_std` (out,) include the bias.

    `gradient_gram` (out, out) is the mean over samples of the sum over positions of g g^T, with g
    the gradient of one sample's loss by the layer's output at one position. With this scale 1/2
    tr(dW gram dW^T gradient_gram) is the predicted increase of the mean loss per sample. Of more than
    8,192 outputs it is the diagonal (out,), the curvature by each output alone. None when no loss was
    given.

    `curvature` (out, K) is the mean over samples of each weight's squared gradient: the diagonal of
    the Fisher matrix, so that 1/2 sum(curvature dW^2) is that increase when weights are taken as
    independent. None unless it was asked for, with a loss.

    A table of tokens (tokens, width) is seen from its other side, for its inputs are one-hot: `gram`
    (width, width) is what the loss says of its outputs, the mean of the gradients' g g^T, or the identity
    without a loss, and `gradient_gram` (tokens,) how often each token is met. Their product is the same.
    """

    gram: Tensor
    input_mean: Tensor
    output_mean: Tensor
    output_std: Tensor
    gradient_gram: Tensor | None
    curvature: Tensor | None = None
    positions: int

    def to(self, device: torch.device) -> LayerStatistics:
        """The same on `device`."""
        loss, curvature = self.gradient_gram, self.curvature
        return replace(
            self,
            gram=self.gram.to(device),
            input_mean=self.input_mean.to(device),
            output_mean=self.output_mean.to(device),
            output_std=self.output_std.to(device),
            gradient_gram=None if loss is None else loss.to(device),
            curvature=None if curvature is None else curvature.to(device),
        )

    @functools.cached_property
    def digest(self) -> str:
        """Stands for every value in it."""
        named = [(f.name, getattr(self, f.name)) for f in fields(self)]
        parts = [v if isinstance(v, Tensor) else repr(v) for pair in named for v in pair]
        return digest(*parts)


@dataclass
class _Collector:
    """The `after` hook of one pass: adds to the sums and listens to the layers' gradients."""

    layers: Mapping[str, Layer]
    values_read: Mapping[str, str]
    with_gradients: bool
    with_curvature: bool
    watch: Watch
    real: RealValues = field(default_factory=RealValues)
    samples: int = 0
    sums: dict[str, LayerSums] = field(default_factory=dict)
    first_readers: dict[tuple[str, ...], str] = field(default_factory=dict)

    def inputs_of(self, layer: Layer) -> str:
        """Name of the layer whose sums over inputs are this one's too.

        Linear layers that read the same value, such as a transformer's q, k and v, share one Gram.
        """
        if layer.kind != "linear":
            return layer.name
        read = tuple(self.values_read[node] for node in layer.nodes)
        return self.first_readers.setdefault(read, layer.name)

    def __call__(self, node: Node, arguments: Arguments, output: Result) -> Result:
        self.real.follow(node, arguments, output)
        self.watch(node.name, output, self.real.of(node.name))
        layer = self.layers.get(node.name)
        if layer is None:
            return output
        sums = self.sums.setdefault(layer.name, LayerSums(layer=layer))
        if layer.kind == "recurrent":
            self._add_steps(sums, node, arguments, output)
            return output
        assert isinstance(output, Tensor)
        with torch.no_grad():
            if self.inputs_of(layer) == layer.name:
                sums.add_inputs(self.real.read(node, arguments))
            sums.add_outputs(self.real.given(node, output))
        if self.with_gradients:
            # Nothing before the first layer needs a gradient, so cutting there loses nothing.
            output = output if output.requires_grad else output.detach().requires_grad_()
            samples = self.samples
            output.register_hook(sums.add_gradients)
            if self.with_curvature:
                output.register_hook(
                    lambda gradient: sums.add_curvature(arguments, gradient, samples)
                )
        return output

    def _add_steps(
        self, sums: LayerSums, node: Node, arguments: Arguments, output: Result
    ) -> None:
        with torch.no_grad():
            product = state_product(node, arguments, output)
            sums.add_inputs(product.arguments)
            sums.add_outputs(product.output)
        if self.with_gradients:
            product.gates.register_hook(sums.add_gradients)
            if self.with_curvature:
                samples = self.samples
                product.gates.register_hook(
                    lambda gradient: sums.add_curvature(product.arguments, gradient, samples)
                )


def collect_statistics(
    graph: Graph,
    tensors: Mapping[str, Tensor],
    layers: Sequence[Layer],
    batches: Iterable[list[Tensor]],
    loss: Loss | None = None,
    targets: Iterable[Target] | None = None,
    seed: int = 0,
    with_curvature: bool = False,
    watch: Watch = lambda name, value, real: None,
    real: Iterable[Tensor] | None = None,
) -> dict[str, LayerStatistics]:
    """Statistics of each layer, by its name, from one pass over the batches.

    Args:
        batches: Inputs in the order of `graph.inputs`, shuffled data.
        loss: (outputs, target) -> the loss summed (not averaged) over the samples, for instance
            `summed_cross_entropy`; None leaves `gradient_gram` out and saves the backward passes.
        targets: One target per batch. None draws labels from the model's own softmax over
            dimension 1 (`draw_labels`), which makes `gradient_gram` the true Fisher's and not the
            empirical one.
        with_curvature: Whether each weight's own squared gradient is wanted; it doubles the
            time of the backward passes.
        watch: Called with every value of the graph by name, inputs included, as the pass goes by.
        real: Of each batch the positions that are not padding, (batch, time), boolean; None where no row
            is padded. Inputs and outputs of layers count there alone; a loss leaves padding out itself.

    Raises:
        StatisticsError, ValueError: There is no batch, or not one target for each.
    """
    by_node = {node: layer for layer in layers for node in layer.nodes}
    with_curvature = with_curvature and loss is not None
    values_read = {node: graph.by_name[node].inputs[0] for node in by_node}
    collector = _Collector(by_node, values_read, loss is not None, with_curvature, watch)
    generator = torch.Generator().manual_seed(seed)
    samples = 0
    each = repeat(None) if targets is None else targets
    pairs = zip(batches, each, strict=targets is not None)
    for (inputs, target), mask in zip(pairs, repeat(None) if real is None else real, strict=False):
        collector.samples = inputs[0].shape[0]
        collector.real = RealValues.of_inputs(graph, inputs, mask)
        samples += collector.samples
        for name, value in zip(graph.inputs, inputs, strict=True):
            watch(name, value, collector.real.of(name))
        with torch.enable_grad() if loss is not None else torch.no_grad():
            outputs = run(graph, tensors, inputs, after=collector)
            if loss is not None:
                drawn = draw_labels(outputs, generator) if target is None else target
                loss(outputs, drawn).backward()
    if not samples:
        raise StatisticsError("calibration needs at least one batch, got none; check its split")
    return {layer.name: _finish(collector, layer, samples) for layer in layers}


def _finish(collector: _Collector, layer: Layer, samples: int) -> LayerStatistics:
    sums, seen = collector.sums[layer.name], collector.sums[collector.inputs_of(layer)]
    if layer.kind == "embedding":
        return _of_table(collector, sums, samples)
    assert seen.inputs is not None
    gram, input_mean = seen.mean_gram(), seen.inputs / seen.positions
    if layer.groups == 1:
        gram, input_mean = gram[0], input_mean[0]
    mean, deviation = sums.output_moments()
    # A layer that the loss does not depend on never hears a gradient: its curvature is zero.
    heard = {
        "gradient_gram": (collector.with_gradients, sums.gradients, gradient_shape(len(mean))),
        "curvature": (collector.with_curvature, sums.curvature, (len(mean), gram.shape[-1])),
    }
    found = {
        name: mean.new_zeros(shape) if total is None else total / samples
        for name, (is_wanted, total, shape) in heard.items()
        if is_wanted
    }
    return LayerStatistics(
        gram=gram,
        input_mean=input_mean,
        output_mean=mean,
        output_std=deviation,
        gradient_gram=found.get("gradient_gram"),
        curvature=found.get("curvature"),
        positions=sums.positions,
    )


def _of_table(collector: _Collector, sums: LayerSums, samples: int) -> LayerStatistics:
    width = sums.layer.weight_shape[1]
    assert sums.gram is not None
    mean, deviation = sums.output_moments()
    found = {"gram": torch.eye(width, dtype=torch.float64, device=mean.device)}
    if collector.with_gradients:
        known = sums.gradients
        gradients = mean.new_zeros(width, width) if known is None else known / samples
        found = {"gram": _whole(gradients), "gradient_gram": sums.gram / sums.positions}
    if collector.with_curvature:
        squares = sums.curvature
        shape = sums.layer.weight_shape
        found["curvature"] = mean.new_zeros(shape) if squares is None else squares / samples
    return LayerStatistics(
        gram=found["gram"],
        input_mean=mean.new_zeros(width),
        output_mean=mean,
        output_std=deviation,
        gradient_gram=found.get("gradient_gram"),
        curvature=found.get("curvature"),
        positions=sums.positions,
    )


def _whole(gradients: Tensor) -> Tensor:
    return torch.diag(gradients) if gradients.ndim == 1 else gradients
