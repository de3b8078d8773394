"""One layer compressed: the tensors that one choice at given widths makes of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from paredown.compressors.layers.methods import Compressed, Problem, compress
from paredown.compressors.layers.repair import output_moments, repair_rows
from paredown.compressors.low_rank.factorizing import (
    compose,
    factorize,
    gram_at_positions,
    refit,
    spread,
    statistics_behind,
)
from paredown.compressors.matrix.algebra import centred_gram, from_matrix, scaled_rows, to_matrix
from paredown.compressors.pruning.narrow import refit_columns
from paredown.compressors.statistics.layer_statistics import LayerStatistics
from paredown.compressors.statistics.ranges import Range
from paredown.spaces.candidates.candidate import LayerChoice
from paredown.spaces.candidates.factors import Chain, Link, factor_chain, form_of
from paredown.spaces.structure.model_map import Layer

_INNER_DEVIATIONS = 4.0
"""Standard deviations of the values between two factors that their 8-bit range covers."""


@dataclass(frozen=True, kw_only=True)
class Factor:
    """One stored weight in its own shape: float32 values, or int8 codes with a scale per channel.

    Where groups of a channel's inputs share scales, `scale` is (out, groups).
    """

    values: Tensor
    scale: Tensor | None
    mask: Tensor | None

    @property
    def nbytes(self) -> int:
        """Bytes of the values, scales and mask in memory."""
        tensors = (self.values, self.scale, self.mask)
        return sum(t.numel() * t.element_size() for t in tensors if t is not None)


@dataclass(frozen=True, kw_only=True)
class Solution:
    """A compressed layer.

    `factors` holds one weight, or those of a low-rank chain in order; `bias` (out,) or None; `inner` the
    ranges of the values between each two. `matrix` (out kept, fan-in of the dense layer) is what the
    factors stand for, removed columns zero.
    """

    factors: tuple[Factor, ...]
    bias: Tensor | None
    inner: tuple[Range, ...]
    matrix: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes of the factors, the bias and the matrix in memory, float32 for the last two."""
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
    then the method's zeros and codes under the remaining Gram matrix. Where a layer has a bias, errors
    count about the inputs' mean, for the bias takes the rest. The identity choice
    without narrowing gives the layer back bit by bit.

    Args:
        weight: In `layer.weight_shape`.
        bias: (out,) or None; a layer without a bias has no moments restored.
    """
    dense = to_matrix(weight, layer)
    if choice.is_identity and narrowing.rows is None and narrowing.channels is None:
        same = Factor(values=weight, scale=None, mask=None)
        return Solution(factors=(same,), bias=bias, inner=(), matrix=dense)
    problem = _narrow(layer, dense, statistics, narrowing, has_bias=bias is not None)
    chain = factor_chain(problem.layer, problem.layer.weight_shape, choice.rank)
    parts, inner = _compress_chain(problem, chain, choice)
    matrix = compose([part.dense() for part in parts])
    full = _widen(matrix, problem.columns, dense.shape[1])
    bias = bias if bias is None or narrowing.rows is None else bias[narrowing.rows]
    if bias is not None and problem.changes(choice):
        factor, bias = repair_rows(problem.dense_rows, full, bias, problem.full_statistics)
        parts[-1] = parts[-1].times(factor)
        full = scaled_rows(full, factor, _about_the_mean(problem.full_statistics).gram)
    factors = tuple(
        _shaped(part, problem.layer, link) for part, link in zip(parts, chain, strict=True)
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
    row_curvature: Tensor | None
    has_bias: bool

    @property
    def seen(self) -> LayerStatistics:
        """The statistics that errors count under: the bias takes what moves an output's mean."""
        return _about_the_mean(self.statistics) if self.has_bias else self.statistics

    def changes(self, choice: LayerChoice) -> bool:
        return self.columns is not None or not choice.is_identity


def _compress_chain(
    problem: _Problem, chain: Chain, choice: LayerChoice
) -> tuple[list[Compressed], tuple[Range, ...]]:
    """A compressed matrix for each link, and the ranges of the values between them.

    Each link is solved for what those before it really give, codes included.
    """
    target, seen, through = problem.matrix, problem.seen, None
    form = form_of(problem.layer, choice.rank.form)
    parts: list[Compressed] = []
    inner: list[Range] = []
    for start in range(len(chain) - 1):
        first, *others = factorize(target, seen.gram, chain[start:])
        read = gram_at_positions(seen.gram, first.shape[1])
        parts.append(_compress(first, read, choice, None))
        link = spread(parts[-1].dense(), target.shape[1])
        through = link if through is None else link @ through
        inner.append(_inner_range(through, problem.statistics))
        seen = statistics_behind(problem.seen, through)
        if form == "channel":
            # Nothing is read at several positions: a refit would gain 0.6 % of what 3 bits lose.
            target = compose(others)
        else:
            target = refit(problem.matrix, problem.seen.gram, through)
    parts.append(_compress(target, seen.gram, choice, problem.row_curvature))
    return parts, tuple(inner)


def _shaped(part: Compressed, layer: Layer, link: Link) -> Factor:
    """The part as a factor, in the shape of its operator's weight."""
    own = replace(layer, weight_shape=link.shape)
    mask = None if part.mask is None else from_matrix(part.mask, own).contiguous()
    return Factor(values=from_matrix(part.values, own).contiguous(), scale=part.scale, mask=mask)


def _narrow(
    layer: Layer,
    dense: Tensor,
    statistics: LayerStatistics,
    narrowing: Narrowing,
    has_bias: bool,
) -> _Problem:
    # Without a copy where all rows stay: solvers remember what they made of these very tensors.
    dense_rows = dense if narrowing.rows is None else dense[narrowing.rows]
    if layer.groups > 1:
        return _narrow_grouped(layer, dense_rows, statistics, narrowing, has_bias)
    shape = list(layer.weight_shape)
    shape[layer.out_axis] = len(dense_rows)
    columns, matrix, narrowed = None, dense_rows, statistics
    if narrowing.channels is not None:
        per_channel = dense.shape[1] // layer.weight_shape[layer.in_axis]
        columns = _columns(narrowing.channels, per_channel)
        shape[layer.in_axis] = len(narrowing.channels)
        seen = _about_the_mean(statistics) if has_bias else statistics
        matrix = refit_columns(dense_rows, seen.gram, columns)
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
        dense_rows=dense_rows,
        full_statistics=statistics,
        row_curvature=row_curvature(statistics, narrowing.rows),
        has_bias=has_bias,
    )


def _narrow_grouped(
    layer: Layer,
    dense_rows: Tensor,
    statistics: LayerStatistics,
    narrowing: Narrowing,
    has_bias: bool,
) -> _Problem:
    """Depthwise layers lose whole groups, each with its own Gram; others are never narrowed."""
    rows = narrowing.rows
    if rows is not None:
        statistics = replace(
            statistics, gram=statistics.gram[rows], input_mean=statistics.input_mean[rows]
        )
        layer = replace(layer, weight_shape=(len(rows), *layer.weight_shape[1:]), groups=len(rows))
    return _Problem(
        layer=layer,
        matrix=dense_rows,
        statistics=statistics,
        columns=None,
        dense_rows=dense_rows,
        full_statistics=statistics,
        row_curvature=row_curvature(statistics, rows),
        has_bias=has_bias,
    )


def row_curvature(statistics: LayerStatistics, rows: Tensor | None) -> Tensor | None:
    """The loss's curvature (R,) by each output that stays (all where `rows` is None), if known."""
    if statistics.gradient_gram is None:
        return None
    known = statistics.gradient_gram
    diagonal = known if known.ndim == 1 else known.diagonal()
    return diagonal if rows is None else diagonal[rows]


def _about_the_mean(statistics: LayerStatistics) -> LayerStatistics:
    return replace(statistics, gram=centred_gram(statistics.gram, statistics.input_mean))


def _columns(channels: Tensor, per_channel: int) -> Tensor:
    """Matrix columns of input channels; each channel holds its kernel positions in a row."""
    return (channels[:, None] * per_channel + torch.arange(per_channel)).flatten()


def _compress(
    matrix: Tensor, gram: Tensor, choice: LayerChoice, outputs: Tensor | None
) -> Compressed:
    """One matrix under the choice for inputs of this Gram.

    `outputs` (R,) is the loss's curvature by its outputs.
    """
    return compress(Problem(matrix=matrix, gram=gram, row_curvature=outputs), choice)


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
