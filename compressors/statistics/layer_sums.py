"""Running sums of one layer over positions: float64, in memory that does not grow with the data."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from paredown.compressors.statistics.fisher import channels_first, squared_gradients
from paredown.compressors.statistics.patches import input_columns
from paredown.compressors.statistics.sampled_inputs import WIDEST, SampledInputs
from paredown.spaces.graph.graph import Arguments
from paredown.spaces.structure.model_map import Layer

_MOST_OUTPUTS = 2**13
"""Outputs of a layer above which gradients count one by one: beyond, their Gram takes gigabytes."""
_STRIP = 192
"""Rows of a wide Gram that are made in one product."""
_PIECE = 2**15
"""Values of a layer's output that are counted at once."""


@dataclass(kw_only=True)
class LayerSums:
    """What `LayerStatistics` are means of, as far as batches have been seen; None before the first."""

    layer: Layer
    gram: Tensor | None = None
    sampled: SampledInputs = field(default_factory=SampledInputs)
    inputs: Tensor | None = None
    outputs: Tensor | None = None
    squares: Tensor | None = None
    gradients: Tensor | None = None
    curvature: Tensor | None = None
    positions: int = 0

    def add_inputs(self, arguments: Arguments) -> None:
        """Adds what the layer's operator reads, its arguments as they are called."""
        if self.layer.kind == "embedding":
            tokens = arguments[1].flatten()
            counts = torch.bincount(tokens, minlength=self.layer.weight_shape[0]).double()
            self.gram, self.inputs = _plus(self.gram, counts), _plus(self.inputs, counts)
            return
        for columns in input_columns(self.layer, arguments):
            # Sums within a chunk are float32, for speed; those over chunks are float64.
            if columns.shape[1] > WIDEST and len(columns) == 1:
                self.sampled.add(columns[0])
            else:
                self.gram = _plus(self.gram, _outer(columns))
            self.inputs = _plus(self.inputs, columns.sum(dim=2))

    def add_outputs(self, output: Tensor) -> None:
        """In pieces, so that their float64 copies stay in the processor's cache."""
        is_image = self.layer.kind.startswith("conv")
        items = output.flatten(2) if is_image else output.reshape(-1, output.shape[-1])
        over = (0, 2) if is_image else (0,)
        for piece in items.split(max(1, _PIECE // items[0].numel())):
            wide = piece.double()
            self.outputs = _plus(self.outputs, wide.sum(dim=over))
            self.squares = _plus(self.squares, wide.square().sum(dim=over))
        self.positions += items[:, 0].numel()

    def mean_gram(self) -> Tensor:
        """The Gram (groups, K, K) over positions; of more than 12,288 inputs its root (1, n, K)."""
        if self.gram is None:
            return self.sampled.root().unsqueeze(0)
        return self.gram / self.positions

    def output_moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (out,) of the outputs so far."""
        assert self.outputs is not None
        assert self.squares is not None
        mean = self.outputs / self.positions
        variance = self.squares / self.positions - mean * mean
        return mean, variance.clamp_min(0.0).sqrt()

    def add_gradients(self, gradient: Tensor) -> None:
        """Adds the loss's gradient by the output; of many outputs only its squares."""
        flat = channels_first(self.layer, gradient)
        if len(gradient_shape(len(flat))) == 1:
            part = flat.square().sum(dim=1)
        else:
            part = _outer(flat.unsqueeze(0))[0]
        self.gradients = _plus(self.gradients, part)

    def add_curvature(self, arguments: Arguments, gradient: Tensor, samples: int) -> None:
        """Adds each weight's squared gradient of each of so many samples."""
        squares = squared_gradients(self.layer, arguments, gradient, samples)
        self.curvature = _plus(self.curvature, squares)


def gradient_shape(outputs: int) -> tuple[int, ...]:
    """Of the gradients' Gram, or of its diagonal where there are too many outputs for more."""
    return (outputs,) if outputs > _MOST_OUTPUTS else (outputs, outputs)


def _outer(columns: Tensor) -> Tensor:
    """Sum of x x^T over positions for columns (groups, K, positions); symmetric, so half is made."""
    width = columns.shape[1]
    if width < 2 * _STRIP:
        return columns @ columns.transpose(1, 2)
    total = columns.new_empty(len(columns), width, width)
    for start in range(0, width, _STRIP):
        stop = start + _STRIP
        strip = columns[:, start:stop] @ columns[:, start:].transpose(1, 2)
        total[:, start:stop, start:] = strip
        total[:, start:, start:stop] = strip.transpose(1, 2)
    return total


def _plus(total: Tensor | None, part: Tensor) -> Tensor:
    """The float64 sum, in place from the second part on: a wide Gram is never there twice."""
    return part.to(torch.float64, copy=True) if total is None else total.add_(part)
