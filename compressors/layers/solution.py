"""One layer compressed: the tensors that one choice at given widths makes of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from paredown.compressors.layers.by_rows import compress_by_rows
from paredown.compressors.layers.methods import Compressed, Problem, compress
from paredown.compressors.layers.narrowed import NarrowedLayer
from paredown.compressors.layers.repair import Moments, repair_rows
from paredown.compressors.low_rank.factorizing import (
    compose,
    factorize,
    gram_at_positions,
    refit,
    spread,
    statistics_behind,
)
from paredown.compressors.matrix.algebra import from_matrix, times_gram, to_matrix
from paredown.compressors.rounding.target import Target
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


def solve(narrowed: NarrowedLayer, choice: LayerChoice) -> Solution:
    """The narrowed layer under `choice`: factorised, pruned, quantised, its moments restored.

    Each step solves for the inputs it really sees: least-squares refit after narrowing, whitened SVD,
    then the method's zeros and codes under the remaining Gram matrix. Where a layer has a bias, errors
    count about the inputs' mean, for the bias takes the rest; a layer without one has no moments
    restored. The identity choice without narrowing is `unchanged`.
    """
    chain = factor_chain(narrowed.layer, narrowed.layer.weight_shape, choice.rank)
    parts, inner = _compress_chain(narrowed, chain, choice)
    matrix = compose([part.dense() for part in parts])
    full = _widen(matrix, narrowed.columns, narrowed.dense.shape[1])
    bias = narrowed.bias
    if bias is not None and (narrowed.columns is not None or not choice.is_identity):
        moved = parts[0].moved if len(parts) == 1 and narrowed.columns is None else None
        if moved is None:
            moved = times_gram(full.double(), narrowed.dense_inputs.centred)
        found = narrowed.dense_inputs.moments(full, moved)
        factor, bias = repair_rows(narrowed.dense_moments, found, bias)
        # Its product is no longer asked for, and as large as the matrix in float64.
        parts[-1] = replace(parts[-1], moved=None).times(factor)
        full = full * factor.unsqueeze(1)
    factors = tuple(
        _shaped(part, narrowed.layer, link) for part, link in zip(parts, chain, strict=True)
    )
    return Solution(factors=factors, bias=bias, inner=inner, matrix=full)


def unchanged(layer: Layer, weight: Tensor, bias: Tensor | None) -> Solution:
    """The layer as it is, bit by bit."""
    same = Factor(values=weight, scale=None, mask=None)
    return Solution(factors=(same,), bias=bias, inner=(), matrix=to_matrix(weight, layer))


def _compress_chain(
    narrowed: NarrowedLayer, chain: Chain, choice: LayerChoice
) -> tuple[list[Compressed], tuple[Range, ...]]:
    """A compressed matrix for each link, and the ranges of the values between them.

    Each link is solved for what those before it really give, codes included.
    """
    if len(chain) == 1:
        return [compress_by_rows(narrowed.problem, choice)], ()
    inputs, target, seen = narrowed.inputs, narrowed.matrix, narrowed.inputs.seen
    through: Tensor | None = None
    form = form_of(narrowed.layer, choice.rank.form)
    parts: list[Compressed] = []
    inner: list[Range] = []
    for start in range(len(chain) - 1):
        if start == 0:
            first, *others = narrowed.factors(chain)
        else:
            first, *others = factorize(target, seen.gram, chain[start:])
        read = gram_at_positions(seen.gram, first.shape[1])
        parts.append(compress(Problem(target=Target.of(first, read)), choice))
        link = spread(parts[-1].dense(), target.shape[1])
        through = link if through is None else link @ through
        inner.append(_inner_range(inputs.moments(through)))
        seen = statistics_behind(inputs.seen, through)
        if form == "channel":
            # Nothing is read at several positions: a refit would gain 0.6 % of what 3 bits lose.
            target = compose(others)
        else:
            target = refit(narrowed.matrix, inputs.gram.values, through)
    last = Target.of(target, seen.gram)
    parts.append(compress(Problem(target=last, row_curvature=narrowed.row_curvature), choice))
    return parts, tuple(inner)


def _shaped(part: Compressed, layer: Layer, link: Link) -> Factor:
    """The part as a factor, in the shape of its operator's weight."""
    own = replace(layer, weight_shape=link.shape)
    mask = None if part.mask is None else from_matrix(part.mask, own).contiguous()
    return Factor(values=from_matrix(part.values, own).contiguous(), scale=part.scale, mask=mask)


def _inner_range(moments: Moments) -> Range:
    mean, variance = moments
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
