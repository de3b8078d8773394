"""The diagonal of the Fisher matrix: each weight's squared gradient, sample by sample.

A weight's gradient is one sample's sum over positions, squared only then. No pass per sample is
needed: gradients at the layer's outputs and its inputs give all of them in one batched product.
"""

from __future__ import annotations

import torch
from torch import Tensor

from paredown.compressors.statistics.patches import input_columns, items_per_sample
from paredown.spaces.graph.graph import Arguments
from paredown.spaces.structure.model_map import Layer

_CHUNK_VALUES = 2**20
"""Values of per-sample gradients made at once: they stay in the processor's cache."""


def channels_first(layer: Layer, value: Tensor) -> Tensor:
    """A layer's output or its gradient as (out, positions), the samples one after the other."""
    axis = 1 if layer.kind.startswith("conv") else -1
    return value.movedim(axis, 0).flatten(1)


def squared_gradients(
    layer: Layer, arguments: Arguments, gradient: Tensor, samples: int
) -> Tensor:
    """Sum over samples of the squared gradient of the weight, (out, K) like `to_matrix`, float64.

    Args:
        arguments: What the layer's ATen operator was called with.
        gradient: Of the loss summed over samples, by the layer's output.
        samples: In this batch; consecutive items belong to the same one, see `items_per_sample`.
    """
    if layer.kind == "embedding":
        return _of_embedding(layer, arguments[1], gradient, samples)
    flat = channels_first(layer, gradient)
    items = gradient.shape[0] if layer.kind.startswith("conv") else flat.shape[1]
    positions = flat.shape[1] // items * items_per_sample(items, samples)
    grouped = flat.reshape(layer.groups, -1, flat.shape[1])
    total = gradient.new_zeros((), dtype=torch.float64)
    start = 0
    for columns in input_columns(layer, arguments, samples):
        stop = start + columns.shape[2]
        total = total + _sum_of_squares(grouped[:, :, start:stop], columns, positions)
        start = stop
    return total.flatten(0, 1)


def _sum_of_squares(gradients: Tensor, columns: Tensor, positions: int) -> Tensor:
    """Sum over samples of (g x^T)^2 for g (groups, R, n * positions) and x (groups, K, the same).

    Of shape (groups, R, K), float64.
    """
    if positions == 1:
        return (gradients.square() @ columns.square().transpose(1, 2)).double()
    groups, rows, count = gradients.shape
    width = columns.shape[1]
    g = gradients.reshape(groups, rows, -1, positions).permute(2, 0, 1, 3)
    x = columns.reshape(groups, width, -1, positions).permute(2, 0, 3, 1)
    at_once = max(1, _CHUNK_VALUES // (groups * rows * width))
    total = gradients.new_zeros(groups, rows, width, dtype=torch.float64)
    for start in range(0, count // positions, at_once):
        stop = start + at_once
        total += (g[start:stop] @ x[start:stop]).square_().sum(dim=0)
    return total


def _of_embedding(layer: Layer, tokens: Tensor, gradient: Tensor, samples: int) -> Tensor:
    """A token's gradient is the sum over the positions of a sample where it stands."""
    vocabulary, width = layer.weight_shape
    rows = gradient.reshape(-1, width)
    per_sample = items_per_sample(len(rows), samples)
    owner = torch.arange(len(rows), device=rows.device) // per_sample
    # One number for each (sample, token) that occurs: never a table of the whole vocabulary.
    pairs, place = (owner * vocabulary + tokens.reshape(-1)).unique(return_inverse=True)
    summed = rows.new_zeros(len(pairs), width).index_add_(0, place, rows)
    total = rows.new_zeros(vocabulary, width, dtype=torch.float64)
    total.index_add_(0, pairs % vocabulary, summed.square_().double())
    return total
