"""One layer compressed: the tensors that one choice at given widths makes of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from paredown.compressors.gptq import gptq
from paredown.compressors.low_rank import second_statistics, whitened_svd
from paredown.compressors.matrix import from_matrix, to_matrix
from paredown.compressors.narrow import refit_columns
from paredown.compressors.quantize import round_to_nearest
from paredown.compressors.ranges import Range
from paredown.compressors.repair import output_moments, repair_rows
from paredown.compressors.sparsify import magnitude, sparse_gpt
from paredown.compressors.statistics import LayerStatistics
from paredown.spaces.candidate import LayerChoice
from paredown.spaces.draft import factor_rank
from paredown.spaces.model_map import Layer

_INNER_DEVIATIONS = 4.0
"""Standard deviations of the values between two factors that their 8-bit range covers."""


@dataclass(frozen=True, kw_only=True)
class Factor:
    """One stored weight in its own shape: float32 values, or int8 codes with a scale per channel."""

    values: Tensor
    scale: Tensor | None
    mask: Tensor | None

    @property
    def nbytes(self) -> int:
        tensors = (self.values, self.scale, self.mask)
        return sum(t.numel() * t.element_size() for t in tensors if t is not None)


@dataclass(frozen=True, kw_only=True)
class Solution:
    """A compressed layer.

    `factors` holds one weight, or the two of a low-rank pair; `bias` (out,) or None; `inner` the range
    of the values between two factors. `matrix` (out kept, fan-in of the dense layer) is what the
    factors stand for, removed columns zero.
    """

    factors: tuple[Factor, ...]
    bias: Tensor | None
    inner: Range | None
    matrix: Tensor

    @property
    def nbytes(self) -> int:
        bias = 0 if self.bias is None else self.bias.numel() * 4
        return sum(f.nbytes for f in self.factors) + bias + self.matrix.numel() * 4


@dataclass(frozen=True, kw_only=True)
class Narrowing:
    """Positions along a layer's output and input channels that stay; None keeps all."""

    rows: Tensor | None = None
    channels: Tensor | None = None


def solve(
    layer: Layer,
    weight: Tensor,
    bias: Tensor | None,
    statistics: LayerStatistics,
    choice: LayerChoice,
    narrowing: Narrowing,
) -> Solution:
    """The layer under `choice`: narrowed, factorised, pruned, quantised, its moments restored.

    Each step solves for the inputs it really sees: least-squares refit after narrowing, whitened SVD,
    then SparseGPT and GPTQ under the remaining Gram matrix (DESIGN section 5). The identity choice
    without narrowing gives the layer back bit by bit.

    Args:
        weight: In `layer.weight_shape`.
        bias: (out,) or None; a layer without a bias has no moments restored.
    """
    dense = to_matrix(weight, layer)
    if choice.is_identity and narrowing.rows is None and narrowing.channels is None:
        whole = Factor(values=weight, scale=None, mask=None)
        return Solution(factors=(whole,), bias=bias, inner=None, matrix=dense)
    problem = _narrow(layer, dense, statistics, narrowing)
    rank = factor_rank(problem.layer, problem.layer.weight_shape, choice.rank_fraction)
    inner = None
    if rank is None:
        parts: tuple[_Part, ...] = (_compress(problem.matrix, problem.statistics.gram, choice),)
        matrix = parts[0].dense()
    else:
        first_dense, second_dense = whitened_svd(problem.matrix, problem.statistics.gram, rank)
        first = _compress(first_dense, problem.statistics.gram, choice)
        between = second_statistics(problem.statistics, first.dense())
        second = _compress(second_dense, between.gram, choice)
        inner = _inner_range(first.dense(), problem.statistics)
        parts = (first, second)
        matrix = second.dense() @ first.dense()
    full = _widen(matrix, problem.columns, dense.shape[1])
    bias = bias if bias is None or narrowing.rows is None else bias[narrowing.rows]
    if bias is not None and problem.changes(choice):
        factor, bias = repair_rows(problem.dense_rows, full, bias, problem.full_statistics)
        parts = (*parts[:-1], parts[-1].times(factor))
        full = full * factor.unsqueeze(1)
    factors = tuple(
        part.shaped(problem.layer, index, len(parts)) for index, part in enumerate(parts)
    )
    return Solution(factors=factors, bias=bias, inner=inner, matrix=full)


@dataclass(frozen=True, kw_only=True)
class _Problem:
    """A narrowed layer: its matrix and statistics, and the dense rows whose moments are the target."""

    layer: Layer
    matrix: Tensor
    statistics: LayerStatistics
    columns: Tensor | None
    dense_rows: Tensor
    full_statistics: LayerStatistics

    def changes(self, choice: LayerChoice) -> bool:
        return self.columns is not None or not choice.is_identity


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A compressed matrix (R, K): codes with a scale (R,), or floats."""

    values: Tensor
    scale: Tensor | None
    mask: Tensor | None

    def dense(self) -> Tensor:
        return self.values if self.scale is None else self.values.float() * self.scale[:, None]

    def times(self, factor: Tensor) -> _Part:
        if self.scale is None:
            return replace(self, values=self.values * factor.unsqueeze(1))
        return replace(self, scale=self.scale * factor)

    def shaped(self, layer: Layer, index: int, count: int) -> Factor:
        """The factor in the shape of its operator's weight."""
        if count == 1:
            shape = layer.weight_shape
        elif index == 0:
            shape = (len(self.values), *layer.weight_shape[1:])
        else:
            shape = (*self.values.shape, *(1,) * (len(layer.weight_shape) - 2))
        own = replace(layer, weight_shape=shape)
        mask = None if self.mask is None else from_matrix(self.mask, own).contiguous()
        return Factor(
            values=from_matrix(self.values, own).contiguous(), scale=self.scale, mask=mask
        )


def _narrow(
    layer: Layer, dense: Tensor, statistics: LayerStatistics, narrowing: Narrowing
) -> _Problem:
    rows = narrowing.rows if narrowing.rows is not None else torch.arange(len(dense))
    if layer.groups > 1:
        return _narrow_grouped(layer, dense, statistics, narrowing, rows)
    shape = list(layer.weight_shape)
    shape[layer.out_axis] = len(rows)
    columns, matrix, narrowed = None, dense[rows], statistics
    if narrowing.channels is not None:
        per_channel = dense.shape[1] // layer.weight_shape[layer.in_axis]
        columns = _columns(narrowing.channels, per_channel)
        shape[layer.in_axis] = len(narrowing.channels)
        matrix = refit_columns(dense[rows], statistics.gram, columns)
        narrowed = replace(
            statistics,
            gram=statistics.gram[columns][:, columns],
            input_mean=statistics.input_mean[columns],
        )
    return _Problem(
        layer=replace(layer, weight_shape=tuple(shape)),
        matrix=matrix.float(),
        statistics=narrowed,
        columns=columns,
        dense_rows=dense[rows],
        full_statistics=statistics,
    )


def _narrow_grouped(
    layer: Layer, dense: Tensor, statistics: LayerStatistics, narrowing: Narrowing, rows: Tensor
) -> _Problem:
    """Depthwise layers lose whole groups, each with its own Gram; others are never narrowed."""
    if narrowing.rows is not None:
        statistics = replace(
            statistics, gram=statistics.gram[rows], input_mean=statistics.input_mean[rows]
        )
        layer = replace(layer, weight_shape=(len(rows), *layer.weight_shape[1:]), groups=len(rows))
    return _Problem(
        layer=layer,
        matrix=dense[rows],
        statistics=statistics,
        columns=None,
        dense_rows=dense[rows],
        full_statistics=statistics,
    )


def _columns(channels: Tensor, per_channel: int) -> Tensor:
    """Matrix columns of input channels; each channel holds its kernel positions in a row."""
    return (channels[:, None] * per_channel + torch.arange(per_channel)).flatten()


def _compress(matrix: Tensor, gram: Tensor, choice: LayerChoice) -> _Part:
    mask = None
    compensated = choice.method == "gptq"
    if choice.pattern != "dense" and choice.sparsity > 0:
        if compensated:
            matrix, mask = sparse_gpt(matrix, gram, choice.sparsity, choice.pattern)
        else:
            matrix, mask = magnitude(matrix, choice.sparsity, choice.pattern)
    if choice.weight_bits == 32:
        return _Part(values=matrix.float(), scale=None, mask=mask)
    if compensated:
        codes = gptq(matrix, gram, choice.weight_bits, mask)
    else:
        codes = round_to_nearest(matrix, choice.weight_bits)
    return _Part(values=codes.codes, scale=codes.scale, mask=mask)


def _inner_range(first: Tensor, statistics: LayerStatistics) -> Range:
    mean, variance = output_moments(first, statistics)
    spread = _INNER_DEVIATIONS * variance.sqrt()
    low = min(0.0, float((mean - spread).min()))
    high = max(0.0, float((mean + spread).max()))
    return Range(minimum=low, maximum=high, low=low, high=high)


def _widen(matrix: Tensor, columns: Tensor | None, width: int) -> Tensor:
    if columns is None:
        return matrix
    full = matrix.new_zeros(len(matrix), width)
    full[:, columns] = matrix
    return full
