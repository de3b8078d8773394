"""One layer at given widths: the workspace that its choices share.

What it makes is kept as long as it is itself; the database holds that of the last layer asked for.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from paredown.compressors.layers.methods import Problem
from paredown.compressors.layers.repair import Moments, output_moments
from paredown.compressors.low_rank.factorizing import Spectrum, factorize, spectrum_of
from paredown.compressors.matrix.algebra import centred_gram, gram_of_columns, to_matrix
from paredown.compressors.matrix.gram import Gram
from paredown.compressors.matrix.recent import Recent
from paredown.compressors.pruning.narrow import refit_columns
from paredown.compressors.pruning.paths import Paths
from paredown.compressors.rounding.target import Target
from paredown.compressors.statistics.layer_statistics import LayerStatistics
from paredown.spaces.candidates.factors import Chain
from paredown.spaces.structure.model_map import Layer


@dataclass(frozen=True, kw_only=True)
class Narrowing:
    """Positions along a layer's output and input channels that stay; None keeps all."""

    rows: Tensor | None = None
    channels: Tensor | None = None

    @property
    def is_whole(self) -> bool:
        """Whether all stay."""
        return self.rows is None and self.channels is None

    @property
    def text(self) -> str:
        """All positions, as text that stands for them."""
        kept = (self.rows, self.channels)
        return repr([None if positions is None else positions.tolist() for positions in kept])


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """What a layer reads, and the Gram that errors count under: a bias takes what moves the mean."""

    statistics: LayerStatistics
    has_bias: bool

    @functools.cached_property
    def centred(self) -> Tensor:
        """The Gram about the mean."""
        return centred_gram(self.statistics.gram, self.statistics.input_mean)

    @functools.cached_property
    def gram(self) -> Gram:
        """About the mean where the layer has a bias."""
        return Gram(self.centred if self.has_bias else self.statistics.gram)

    @property
    def seen(self) -> LayerStatistics:
        """The statistics with the Gram that errors count under."""
        return replace(self.statistics, gram=self.gram.values)

    def moments(self, weight: Tensor, moved: Tensor | None = None) -> Moments:
        """Of the outputs of `weight`; `moved` is its product with `centred`, where that is known."""
        return output_moments(weight, self.statistics.input_mean, self.centred, moved)


@dataclass(frozen=True, kw_only=True, eq=False)
class NarrowedLayer:
    """A layer of which some rows and columns stay, and what is made of it for all choices.

    Args:
        layer: With the shape that is left.
        bias: (out kept,) or None.
        dense: The rows that stay, all columns: their output moments are the target.
        dense_inputs: What the dense rows read.
        matrix: The matrix (R, K) on the columns that stay, refitted to the dense outputs.
        inputs: What that matrix reads.
        columns: Of the dense matrix, those that stay; None where all do.
        row_curvature: The loss's curvature (R,) by each output that stays, if known.
        paths: Where pruning paths are kept.
    """

    layer: Layer
    bias: Tensor | None
    dense: Tensor
    dense_inputs: Inputs
    matrix: Tensor
    inputs: Inputs
    columns: Tensor | None
    row_curvature: Tensor | None
    paths: Paths
    _factors: Recent[Chain, tuple[Tensor, ...]] = field(
        default_factory=lambda: Recent(2), init=False, repr=False
    )

    @classmethod
    def of(
        cls,
        layer: Layer,
        weight: Tensor,
        bias: Tensor | None,
        statistics: LayerStatistics,
        narrowing: Narrowing,
        paths: Paths | None = None,
    ) -> NarrowedLayer:
        """The layer with the rows and columns that stay.

        Args:
            weight: In `layer.weight_shape`.
            bias: (out,) or None.
            statistics: Of the dense layer.
            paths: Where pruning paths are kept beyond this layer; None keeps them here.
        """
        rows, dense = narrowing.rows, to_matrix(weight, layer)
        if rows is not None:
            dense, bias = dense[rows], None if bias is None else bias[rows]
            layer, statistics = _with_rows(layer, statistics, rows)
        shape = list(layer.weight_shape)
        dense_inputs = Inputs(statistics=statistics, has_bias=bias is not None)
        matrix, inputs, columns = dense, dense_inputs, None
        if narrowing.channels is not None:
            columns = _columns(layer, narrowing.channels, dense.shape[1])
            shape[layer.column_axis] = len(narrowing.channels)
            # A table's columns are outputs: it is their readers that make up for those that go.
            is_table = layer.kind == "embedding"
            gram = dense_inputs.gram.values
            matrix = dense[:, columns] if is_table else refit_columns(dense, gram, columns)
            narrowed = replace(
                statistics,
                gram=gram_of_columns(statistics.gram, columns),
                input_mean=statistics.input_mean[columns],
            )
            inputs = Inputs(statistics=narrowed, has_bias=bias is not None)
        return cls(
            layer=replace(layer, weight_shape=tuple(shape)),
            bias=bias,
            dense=dense,
            dense_inputs=dense_inputs,
            matrix=matrix.float(),
            inputs=inputs,
            columns=columns,
            row_curvature=row_curvature(statistics, rows),
            paths=paths or Paths(),
        )

    @functools.cached_property
    def problem(self) -> Problem:
        """The matrix as it is to be compressed where it stays one."""
        target = Target(matrix=self.matrix, gram=self.inputs.gram)
        return Problem(target=target, row_curvature=self.row_curvature, paths=self.paths)

    @functools.cached_property
    def dense_target(self) -> Target:
        """The dense rows under the Gram of all their inputs."""
        if self.columns is None and self.dense.dtype == self.matrix.dtype:
            return self.problem.target
        return Target(matrix=self.dense, gram=self.dense_inputs.gram)

    @functools.cached_property
    def dense_moments(self) -> Moments:
        """Mean and variance (R,) of the dense outputs, without the bias."""
        moved = self.dense_target.seen if self.dense_inputs.has_bias else None
        return self.dense_inputs.moments(self.dense, moved)

    def factors(self, chain: Chain) -> tuple[Tensor, ...]:
        """The matrix as a chain: it does not depend on bits and zeros."""
        is_pointwise_after = math.prod(chain[0].shape[1:]) == self.matrix.shape[1]
        spectrum = self._spectrum if is_pointwise_after else None
        gram = self.inputs.gram.values
        return self._factors.get(chain, lambda: factorize(self.matrix, gram, chain, spectrum))

    @functools.cached_property
    def _spectrum(self) -> Spectrum:
        return spectrum_of(self.matrix, self.inputs.gram.values)


def _with_rows(
    layer: Layer, statistics: LayerStatistics, rows: Tensor
) -> tuple[Layer, LayerStatistics]:
    """Layer and input statistics where only these rows stay."""
    shape = list(layer.weight_shape)
    shape[layer.row_axis] = len(rows)
    if layer.groups == 1:
        return replace(layer, weight_shape=tuple(shape)), statistics
    # Depthwise layers lose whole groups, each with its own Gram; others are never narrowed.
    gram, input_mean = statistics.gram[rows], statistics.input_mean[rows]
    return (
        replace(layer, weight_shape=tuple(shape), groups=len(rows)),
        replace(statistics, gram=gram, input_mean=input_mean),
    )


def row_curvature(statistics: LayerStatistics, rows: Tensor | None) -> Tensor | None:
    """The loss's curvature (R,) by each output that stays (all where `rows` is None), if known."""
    if statistics.gradient_gram is None:
        return None
    known = statistics.gradient_gram
    diagonal = known if known.ndim == 1 else known.diagonal()
    return diagonal if rows is None else diagonal[rows]


def _columns(layer: Layer, channels: Tensor, width: int) -> Tensor:
    """Matrix columns of input channels; each channel holds its kernel positions in a row."""
    per_channel = width // layer.weight_shape[layer.column_axis]
    return (channels[:, None] * per_channel + torch.arange(per_channel)).flatten()
