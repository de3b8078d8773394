"""The methods by name: each makes of a matrix what a choice asks for, in bits and zeros.

One contract for all: the result lies in the choice's set, and its error under the Gram matrix is at
most that of pruning by magnitude and rounding to nearest, to which `compress` falls back.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from paredown.compressors.matrix.algebra import (
    SolverError,
    gram_diagonal,
    remembered_times_gram,
    scaled_rows,
    split_groups,
)
from paredown.compressors.matrix.recent import Recent
from paredown.compressors.pruning.joint import improve_jointly, zeros_among
from paredown.compressors.pruning.obs import obq
from paredown.compressors.pruning.sparsify import exact_obs, magnitude, saliency, sparse_gpt
from paredown.compressors.rounding.compensated import Target, gptq
from paredown.compressors.rounding.descent import descend, descend_codes
from paredown.compressors.rounding.groupwise import GROUPED, round_groups
from paredown.compressors.rounding.learned import adaround
from paredown.compressors.rounding.quantize import Codes, by_column, round_to_nearest, top_code
from paredown.spaces.candidates.candidate import GROUPED_METHODS, LayerChoice, Method
from paredown.spaces.candidates.scale_groups import effective_size

_LEAST_WEIGHT = 0.3
"""Smallest weight of a row, as a share of the mean. On images that a network answers surely few hold most
of the curvature, and rows that it holds free are not: at 0.001, half of a classifier's output energy went
for a predicted damage of 0.0001, and the loss rose by 1.1 (small transformer, 60 % zeros)."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A matrix (R, K) to compress, the Gram of its inputs, and what its rows mean to the loss.

    `row_curvature` (R,) is the loss's curvature by each output, which says where zeros hurt least;
    None weighs rows alike. It moves nothing where rows do not compete.
    """

    matrix: Tensor
    gram: Tensor
    row_curvature: Tensor | None = None

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All that the problem is made of."""
        tensors = (self.matrix, self.gram)
        return tensors if self.row_curvature is None else (*tensors, self.row_curvature)

    def row_scale(self) -> Tensor:
        """Factors (R,) after which errors of rows are in the loss's unit; their squares average 1."""
        if self.row_curvature is None or not bool((self.row_curvature > 0).any()):
            return torch.ones(len(self.matrix), dtype=torch.float64, device=self.matrix.device)
        share = self.row_curvature.double() / self.row_curvature.double().mean()
        return share.clamp_min(_LEAST_WEIGHT).sqrt()

    def error(self, found: Compressed) -> Tensor:
        """Summed error over rows, weighed by `row_scale`, of `found` in place of the matrix."""
        target, dense = Target.of(self.matrix, self.gram), found.dense()
        if found.scale is not None and found.scale.ndim == 1:
            # Solvers have just made the codes' own product.
            scaled_rows(found.values, found.scale, self.gram, dense)
        moved = remembered_times_gram(dense, self.gram) - target.seen
        errors = (moved * (dense - target.weight)).sum(dim=1).clamp_min(0.0)
        return (errors * self.row_scale().square()).sum()


@dataclass(frozen=True, kw_only=True)
class Compressed:
    """A compressed matrix (R, K): int8 codes with a scale (R,), or floats; kept entries in `mask`.

    Where groups of columns have scales of their own, `scale` is (R, groups).
    """

    values: Tensor
    scale: Tensor | None
    mask: Tensor | None

    def dense(self) -> Tensor:
        """The matrix, made once."""
        return self._dense

    @functools.cached_property
    def _dense(self) -> Tensor:
        if self.scale is None:
            return self.values
        return self.values.float() * by_column(self.scale, self.values.shape[1])

    def times(self, factor: Tensor) -> Compressed:
        """With its rows multiplied by `factor` (R,); codes stay."""
        if self.scale is None:
            return replace(self, values=self.values * factor.unsqueeze(1))
        own = factor if self.scale.ndim == 1 else factor.unsqueeze(1)
        return replace(self, scale=self.scale * own)


def compress(problem: Problem, choice: LayerChoice) -> Compressed:
    """What `choice.method` makes of the problem, or the baseline where that is nearer.

    Raises:
        SolverError: `choice.group_size` beside a method that finds one scale for each row.
    """
    choice = _with_real_groups(choice, problem.matrix.shape[1])
    baseline, error = _baselines.get(
        lambda: _baseline(problem, choice),
        *problem.tensors,
        facts=(choice.weight_bits, choice.sparsity, choice.pattern, choice.group_size),
    )
    if choice.method == "rtn" or _changes_nothing(choice):
        return baseline
    found = METHODS[choice.method](problem, choice)
    # Not "<": a NaN must not win.
    return found if problem.error(found) <= error else baseline


def _with_real_groups(choice: LayerChoice, columns: int) -> LayerChoice:
    """The choice without groups where it has no codes, or where one group would hold a row."""
    bits, size = choice.weight_bits, effective_size(columns, choice.group_size)
    if size and bits < 32 and choice.method not in GROUPED_METHODS:
        raise SolverError(
            f"method must be one of {', '.join(GROUPED_METHODS)} beside group_size {size}, got "
            f"{choice.method}; take one of them, or group_size 0"
        )
    return choice if size and bits < 32 else replace(choice, group_size=0)


def _baseline(problem: Problem, choice: LayerChoice) -> tuple[Compressed, Tensor]:
    """What magnitude and rounding give, and their error."""
    found = METHODS["rtn"](problem, choice)
    return found, problem.error(found)


_baselines: Recent[tuple[Compressed, Tensor]] = Recent(4)
_pruned: Recent[tuple[Tensor, Tensor]] = Recent(4)
"""Zeros do not depend on the bits of what stays: as many as there are usually sparsities."""

Prune = Callable[[Tensor, Tensor, float, str], tuple[Tensor, Tensor]]
Quantize = Callable[[Tensor, Tensor, int, Tensor | None], Codes]
Solver = Callable[[Problem, LayerChoice], Compressed]


def _in_turn(prune: Prune, quantize: Quantize) -> Solver:
    """First the zeros, then the codes of what is left."""

    def solve(problem: Problem, choice: LayerChoice) -> Compressed:
        matrix, mask = problem.matrix, None
        if _prunes(choice):
            matrix, mask = _pruned.get(
                lambda: _prune_rows(problem, choice, prune),
                *problem.tensors,
                facts=(prune, choice.sparsity, choice.pattern),
            )
        if choice.weight_bits == 32:
            return Compressed(values=matrix.float(), scale=None, mask=mask)
        if choice.group_size:
            find = GROUPED[choice.method]
            codes = find(matrix, problem.gram, choice.weight_bits, mask, choice.group_size)
        else:
            codes = quantize(matrix, problem.gram, choice.weight_bits, mask)
        return Compressed(values=codes.codes, scale=codes.scale, mask=mask)

    return solve


def _prune_rows(problem: Problem, choice: LayerChoice, prune: Prune) -> tuple[Tensor, Tensor]:
    """The pruned matrix and its mask, rows weighed by what they mean to the loss."""
    scale = problem.row_scale().unsqueeze(1)
    scaled = problem.matrix.double() * scale
    pruned, mask = prune(scaled, problem.gram, choice.sparsity, choice.pattern)
    return (pruned / scale).to(problem.matrix.dtype), mask


def _plain(problem: Problem, choice: LayerChoice) -> Compressed:
    """Magnitude and rounding to nearest, blind to inputs and loss."""
    matrix, mask = problem.matrix, None
    if _prunes(choice):
        matrix, mask = magnitude(matrix, choice.sparsity, choice.pattern)
    if choice.weight_bits == 32:
        return Compressed(values=matrix.float(), scale=None, mask=mask)
    if choice.group_size:
        codes = round_groups(matrix, choice.weight_bits, choice.group_size)
    else:
        codes = round_to_nearest(matrix, choice.weight_bits)
    return Compressed(values=codes.codes, scale=codes.scale, mask=mask)


def _loss_aware(weight: Tensor, gram: Tensor, bits: int, mask: Tensor | None) -> Codes:
    """LAQ: rounding with the scale that is best under the diagonal of the curvature.

    That of its Kronecker factors: for a row with a scale of its own, the inputs' mean squares. Sums of
    each weight's own would double the backward passes, for the same loss at 3 bits and a little at 2
    (`benchmarks/compressors/loss_aware.py`).
    """
    kept = weight if mask is None else weight * mask
    return round_to_nearest(kept, bits, gram_diagonal(gram, len(weight)))


def _greedy(weight: Tensor, gram: Tensor, bits: int, mask: Tensor | None) -> Codes:
    """OBQ, its codes then settled by coordinate descent; each row the better of that and GPTQ."""
    found = obq(weight, gram, bits, mask)
    if gram.ndim == 1:
        return found
    grouped, square = split_groups(weight.double(), gram)
    codes, scale = descend_codes(
        grouped,
        square,
        found.codes.double().reshape(grouped.shape),
        found.scale.double().reshape(grouped.shape[:2]),
        top_code(bits),
        None if mask is None else mask.reshape(grouped.shape),
    )
    settled = Codes(
        codes=codes.reshape(weight.shape).to(torch.int8), scale=scale.flatten().float()
    )
    # A greedy order is better in the sum, not in every row: a few prefer GPTQ's.
    target = Target.of(weight, gram)
    swept = target.refit(gptq(weight, gram, bits, mask))
    return target.refit(settled).or_better(swept).codes


def _joint(problem: Problem, choice: LayerChoice) -> Compressed:
    """Zeros and codes together, from what they give in turn, in either order."""
    start = METHODS["descent"](problem, choice)
    if start.mask is None or start.scale is None or problem.gram.ndim == 1:
        return start
    if choice.pattern != "element":
        return start  # blocks chosen in turns with their codes gained 0.1 to 3 % of the error
    scale = problem.row_scale()
    scaled = problem.matrix.double() * scale.unsqueeze(1)
    codes = Codes(codes=start.values, scale=(start.scale.double() * scale).float())
    free = descend(scaled, problem.gram, choice.weight_bits)
    kept = int(start.mask.sum())
    starts = (
        (codes, start.mask),
        zeros_among(scaled, problem.gram, choice.weight_bits, free, kept),
    )
    found, mask = improve_jointly(scaled, problem.gram, choice.weight_bits, starts)
    return Compressed(values=found.codes, scale=(found.scale / scale).float(), mask=mask)


METHODS: Mapping[Method, Solver] = {
    "rtn": _plain,
    "laq": _in_turn(saliency, _loss_aware),
    "gptq": _in_turn(sparse_gpt, gptq),
    "adaround": _in_turn(exact_obs, adaround),
    "obq": _in_turn(exact_obs, _greedy),
    "descent": _in_turn(exact_obs, descend),
    "joint": _joint,
}


def _prunes(choice: LayerChoice) -> bool:
    return choice.pattern != "dense" and choice.sparsity > 0


def _changes_nothing(choice: LayerChoice) -> bool:
    return choice.weight_bits == 32 and not _prunes(choice)
