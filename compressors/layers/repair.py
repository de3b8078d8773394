"""Output statistics of compressed layers restored: scales and biases only, codes untouched.

Closed form while searching (`repair_rows`), or measured layer by layer on a whole model
(`reestimate`), which also sees what the layers before have become. After Hubara et al.'s and OBC's
statistics correction and REPAIR (Jordan et al. 2022, arXiv:2211.08403).

It is layers that are repaired, not norms: batch norms are folded by then, and networks with layer norms
or none gain as well. Correcting biases alone gives less there too: on a small transformer and a
norm-free network at 3 bits, answers to held-out images then drift further from the dense ones
(`tests/compressors/test_repair_networks.py`). Harsh choices (`assemble.needs_refit`) have their layers
solved again instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from paredown.compressors.matrix.algebra import times_gram
from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.storage.stored import StoredTensor
from paredown.spaces.graph.facts import Result
from paredown.spaces.graph.graph import Arguments, Node
from paredown.spaces.system.errors import ParedownError

_SMALLEST_FACTOR, _LARGEST_FACTOR = 0.25, 4.0
"""Limits of a row's factor: beyond them a channel is broken and scaling would amplify noise."""
_NEGLIGIBLE = 1e-12
"""Share of E[y^2] below which a variance is rounding error."""

Moments = tuple[Tensor, Tensor]
"""Mean and variance (R,) of a layer's outputs."""


class RepairError(ParedownError):
    """A layer's statistics cannot be repaired in the form it is stored."""


def output_moments(
    weight: Tensor, input_mean: Tensor, centred: Tensor, moved: Tensor | None = None
) -> Moments:
    """Mean and variance (R,) of weight @ x over calibration, without bias.

    Args:
        weight: (R, K).
        input_mean: (K,), or (groups, K).
        centred: The inputs' Gram about their mean, as `centred_gram` gives it.
        moved: The weight times that Gram (R, K), where it is known.
    """
    wide = weight.double()
    if input_mean.ndim == 2:
        input_mean = input_mean.repeat_interleave(len(wide) // len(input_mean), dim=0)
    mean = (wide * input_mean).sum(dim=1)
    if centred.ndim == 1:
        square = (wide.square() * centred).sum(dim=1)
        variance = square - mean * mean
        return mean, torch.where(variance > _NEGLIGIBLE * square, variance, 0.0)
    moved = times_gram(wide, centred) if moved is None else moved
    variance = (moved * wide).sum(dim=1)
    return mean, torch.where(variance > _NEGLIGIBLE * (variance + mean * mean), variance, 0.0)


def repair_rows(dense: Moments, found: Moments, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Factors (R,) for the rows of a weight and the bias (R,) that restore the dense moments.

    With both applied, mean and standard deviation over calibration equal the dense layer's, as
    long as the factor lies in [0.25, 4]; a row without variance keeps the factor 1.

    Args:
        dense: Of the uncompressed matrix's outputs.
        found: Of the compressed one's, columns of removed channels at zero.
        bias: The dense layer's bias (R,); None is zero.
    """
    (dense_mean, dense_variance), (mean, variance) = dense, found
    factor = _factor(dense_variance.sqrt(), variance.sqrt())
    start = torch.zeros_like(mean) if bias is None else bias.double()
    return factor.float(), (start + dense_mean - factor * mean).float()


def reestimate(
    model: CompressedModel,
    targets: Mapping[str, tuple[Tensor, Tensor]],
    inputs: list[Tensor],
) -> CompressedModel:
    """The model with every targeted layer's output moments on `inputs` put back to their targets.

    One forward pass: each layer is measured on what the repaired layers before it give.

    Args:
        targets: By operator node (of a factorised layer the last): standard deviation and mean
            (out,) to restore. Operators without a target stay as they are. A layer without a bias
            keeps its mean times the factor.

    Raises:
        RepairError: Codes whose scales do not run along the output channels.
    """
    restorer = MomentRestorer(model, targets)
    with torch.no_grad():
        model(inputs, after=restorer)
    return CompressedModel(blueprint=model.blueprint, stored=restorer.stored)


class MomentRestorer:
    """The `after` hook of one pass: puts back the targeted layers' moments as they are met.

    `stored` holds the tensors as they have become.
    """

    def __init__(
        self, model: CompressedModel, targets: Mapping[str, tuple[Tensor, Tensor]]
    ) -> None:
        self.stored = dict(model.stored)
        self._operators = {operator.node: operator for operator in model.blueprint.operators}
        self._targets = targets

    def __call__(self, node: Node, arguments: Arguments, output: Result) -> Result:
        if node.name not in self._targets:
            return output
        assert isinstance(output, Tensor)
        operator = self._operators[node.name]
        std, mean = (moment.double() for moment in self._targets[node.name])
        layer = node.facts.layer
        assert layer is not None
        axis = layer.channel_dim % output.ndim
        seen = output.double().movedim(axis, 0).flatten(1)
        factor = _factor(std, seen.std(dim=1, correction=0))
        weight = self.stored[operator.weight]
        self.stored[operator.weight] = _scaled(weight, factor, layer.out_axis)
        shift = torch.zeros_like(factor)
        if operator.bias is not None:
            shift = mean - factor * seen.mean(dim=1)
            bias = self.stored[operator.bias].dense().double()
            self.stored[operator.bias] = StoredTensor.of_floats(bias * factor + shift)
        shape = [1] * output.ndim
        shape[axis] = -1
        return output * factor.float().view(shape) + shift.float().view(shape)


def _factor(target: Tensor, seen: Tensor) -> Tensor:
    is_live = (target > 0) & (seen > 0)
    ratio = target / torch.where(is_live, seen, 1.0)
    return torch.where(is_live, ratio.clamp(_SMALLEST_FACTOR, _LARGEST_FACTOR), 1.0)


def _scaled(tensor: StoredTensor, factor: Tensor, axis: int) -> StoredTensor:
    """The stored tensor with its slices along `axis` multiplied by `factor`; codes stay."""
    if tensor.scale is None:
        shape = [1] * tensor.values.ndim
        shape[axis] = -1
        return replace(tensor, values=tensor.values * factor.float().view(shape))
    if tensor.storage.axis != axis:
        raise RepairError(
            f"scales must run along the output axis {axis} to be repaired, "
            f"got axis {tensor.storage.axis}; leave this layer out of the targets"
        )
    own = factor.float() if tensor.scale.ndim == 1 else factor.float().unsqueeze(1)
    return replace(tensor, scale=tensor.scale * own)
