"""The methods by name: each makes of a matrix what a choice asks for, in bits and zeros.

One contract for all: the result lies in the choice's set, and its error under the Gram matrix is at
most that of pruning by magnitude and rounding to nearest, to which `compress` falls back.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from paredown.compressors.matrix.algebra import SolverError, gram_diagonal, times_gram
from paredown.compressors.matrix.recent import Recent
from paredown.compressors.pruning.joint import improve_jointly, zeros_among
from paredown.compressors.pruning.obs import obq
from paredown.compressors.pruning.paths import Paths
from paredown.compressors.pruning.sparsify import exact_obs, magnitude, saliency, sparse_gpt
from paredown.compressors.rounding.compensated import gptq
from paredown.compressors.rounding.descent import descend, descend_codes
from paredown.compressors.rounding.groupwise import GROUPED, round_groups, with_real_groups
from paredown.compressors.rounding.learned import adaround
from paredown.compressors.rounding.quantize import Codes, by_column, round_to_nearest
from paredown.compressors.rounding.target import Target
from paredown.spaces.candidates.candidate import LayerChoice, Method
from paredown.spaces.candidates.zeros import Zeros

_Set = tuple[int, Zeros, int]
"""What a result must lie in: bits, sparsity, pattern, group size."""
_PrunedBy = tuple["Prune", Zeros]
_LEAST_WEIGHT = 0.3
"""Smallest weight of a row, as a share of the mean. On images that a network answers surely few hold most
of the curvature, and rows that it holds free are not: at 0.001, half of a classifier's output energy went
for a predicted damage of 0.0001, and the loss rose by 1.1 (small transformer, 60 % zeros)."""


def row_shares(curvature: Tensor) -> Tensor:
    """What rows count among each other where zeros are chosen, (R,): their curvature over the mean."""
    return (curvature / curvature.mean()).clamp_min(_LEAST_WEIGHT)


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """A matrix (R, K) to compress under the Gram of its inputs, and what its rows mean to the loss.

    It is also the workspace of its choices: what several of them need is made once, and goes with it.

    Args:
        target: The matrix and its Gram.
        row_curvature: The loss's curvature (R,) by each output, which says where zeros hurt least;
            None weighs rows alike. It changes nothing where rows do not compete.
        paths: Where pruning paths are kept, longer than the problem if the caller holds it.
    """

    target: Target
    row_curvature: Tensor | None = None
    paths: Paths = field(default_factory=Paths)
    baselines: Recent[_Set, tuple[Compressed, Tensor]] = field(
        default_factory=lambda: Recent(4), init=False, repr=False
    )
    """What magnitude and rounding give, and its error, by what is asked for."""
    pruned: Recent[_PrunedBy, tuple[Target, Tensor]] = field(
        default_factory=lambda: Recent(4), init=False, repr=False
    )
    """Zeros do not depend on the bits of what stays: as many as there are usually sparsities."""

    def row_scale(self) -> Tensor:
        """Factors (R,) after which errors of rows are in the loss's unit; their squares average 1."""
        matrix = self.target.matrix
        if self.row_curvature is None or not bool((self.row_curvature > 0).any()):
            return torch.ones(len(matrix), dtype=torch.float64, device=matrix.device)
        return row_shares(self.row_curvature.double()).sqrt()

    def scaled(self) -> Target:
        """The matrix with its rows multiplied by `row_scale`, under the same Gram."""
        matrix = self.target.weight * self.row_scale().unsqueeze(1)
        return Target(matrix=matrix, gram=self.target.gram)

    def error(self, found: Compressed) -> Tensor:
        """Summed error over rows, weighed by `row_scale`, of `found` in place of the matrix."""
        change = found.moved_by(self.target.gram.values) - self.target.seen
        errors = (change * (found.dense() - self.target.weight)).sum(dim=1).clamp_min(0.0)
        return (errors * self.row_scale().square()).sum()


@dataclass(frozen=True, kw_only=True, eq=False)
class Compressed:
    """A compressed matrix (R, K): int8 codes with a scale (R,), or floats; kept entries in `mask`.

    Where groups of columns have scales of their own, `scale` is (R, groups). `moved` is the matrix
    times the Gram that it was found under, (R, K) in float64, where that is known.
    """

    values: Tensor
    scale: Tensor | None
    mask: Tensor | None
    moved: Tensor | None = None

    @classmethod
    def of(cls, codes: Codes, mask: Tensor | None) -> Compressed:
        """The matrix that the codes stand for."""
        product, scale = codes.product, codes.scale
        moved = None if product is None else scale.double().unsqueeze(1) * product
        return cls(values=codes.codes, scale=scale, mask=mask, moved=moved)

    def dense(self) -> Tensor:
        """The matrix, made once."""
        return self._dense

    @functools.cached_property
    def _dense(self) -> Tensor:
        if self.scale is None:
            return self.values
        return self.values.float() * by_column(self.scale, self.values.shape[1])

    def moved_by(self, gram: Tensor) -> Tensor:
        """The matrix times the Gram that it was found under, (R, K) in float64."""
        if self.moved is not None:
            return self.moved
        if self.scale is None or self.scale.ndim > 1:
            return times_gram(self.dense().double(), gram)
        return self.scale.double().unsqueeze(1) * times_gram(self.values.double(), gram)

    def times(self, factor: Tensor) -> Compressed:
        """With its rows multiplied by `factor` (R,); codes stay."""
        moved = None if self.moved is None else self.moved * factor.double().unsqueeze(1)
        if self.scale is None:
            return replace(self, values=self.values * factor.unsqueeze(1), moved=moved)
        own = factor if self.scale.ndim == 1 else factor.unsqueeze(1)
        return replace(self, scale=self.scale * own, moved=moved)


def compress(problem: Problem, choice: LayerChoice) -> Compressed:
    """What `choice.method` makes of the problem, or the baseline where that is nearer.

    Raises:
        SolverError: `choice.group_size` beside a method that finds one scale for each row, or zeros at
            1 bit.
    """
    _check_zeros(choice)
    choice = with_real_groups(choice, problem.target.matrix.shape[1])
    baseline, error = problem.baselines.get(
        (choice.weight_bits, choice.zeros, choice.group_size),
        lambda: _baseline(problem, choice),
    )
    if choice.method == "rtn" or _changes_nothing(choice):
        return baseline
    found = _weighed(problem, METHODS[choice.method](problem, choice))
    # Not "<": a NaN must not win.
    return found if problem.error(found) <= error else baseline


def _check_zeros(choice: LayerChoice) -> None:
    if choice.lacks_zero:
        raise SolverError(
            f"1-bit codes have no zero, got {choice.zeros.text} by {choice.method}; take 2 bits or "
            "more"
        )


def _baseline(problem: Problem, choice: LayerChoice) -> tuple[Compressed, Tensor]:
    """What magnitude and rounding give, and their error."""
    found = _weighed(problem, METHODS["rtn"](problem, choice))
    return found, problem.error(found)


def _weighed(problem: Problem, found: Compressed) -> Compressed:
    """With its product with the Gram, which errors and repairs need."""
    return replace(found, moved=found.moved_by(problem.target.gram.values))


Prune = Callable[[Target, float, str, Paths], tuple[Tensor, Tensor]]
Quantize = Callable[[Target, int, Tensor | None], Codes]
Solver = Callable[[Problem, LayerChoice], Compressed]


def _in_turn(prune: Prune, quantize: Quantize) -> Solver:
    """First the zeros, then the codes of what is left."""

    def _solve(problem: Problem, choice: LayerChoice) -> Compressed:
        target, mask = problem.target, None
        if _prunes(choice):
            target, mask = problem.pruned.get(
                (prune, choice.zeros),
                lambda: _prune_rows(problem, choice, prune),
            )
        if choice.weight_bits == 32:
            return Compressed(values=target.matrix.float(), scale=None, mask=mask)
        if choice.group_size:
            find = GROUPED[choice.method]
            codes = find(target, choice.weight_bits, mask, choice.group_size)
        else:
            codes = quantize(target, choice.weight_bits, mask)
        return Compressed.of(codes, mask)

    return _solve


def _pathless(prune: Callable[[Target, float, str], tuple[Tensor, Tensor]]) -> Prune:
    """A way to prune that follows no path."""
    return lambda target, sparsity, pattern, paths: prune(target, sparsity, pattern)


def _prune_rows(problem: Problem, choice: LayerChoice, prune: Prune) -> tuple[Target, Tensor]:
    """The pruned matrix and its mask, rows weighed by what they mean to the loss."""
    pruned, mask = prune(problem.scaled(), choice.zeros.share, choice.zeros.pattern, problem.paths)
    matrix = (pruned / problem.row_scale().unsqueeze(1)).to(problem.target.matrix.dtype)
    return Target(matrix=matrix, gram=problem.target.gram), mask


def _plain(problem: Problem, choice: LayerChoice) -> Compressed:
    """Magnitude and rounding to nearest, blind to inputs and loss."""
    matrix, mask = problem.target.matrix, None
    if _prunes(choice):
        matrix, mask = magnitude(matrix, choice.zeros.share, choice.zeros.pattern)
    if choice.weight_bits == 32:
        return Compressed(values=matrix.float(), scale=None, mask=mask)
    if choice.group_size:
        codes = round_groups(matrix, choice.weight_bits, choice.group_size)
    else:
        codes = round_to_nearest(matrix, choice.weight_bits)
    return Compressed.of(codes, mask)


def _loss_aware(target: Target, bits: int, mask: Tensor | None) -> Codes:
    """LAQ: rounding with the scale that is best under the diagonal of the curvature.

    That of its Kronecker factors: for a row with a scale of its own, the inputs' mean squares. Sums of
    each weight's own would double the backward passes, for the same loss at 3 bits and a little at 2
    (`benchmarks/compressors/loss_aware.py`).
    """
    kept = target.matrix if mask is None else target.matrix * mask
    return round_to_nearest(kept, bits, gram_diagonal(target.gram.values, len(kept)))


def _greedy(target: Target, bits: int, mask: Tensor | None) -> Codes:
    """OBQ, its codes then settled by coordinate descent; each row the better of that and GPTQ."""
    found = obq(target, bits, mask)
    if not target.gram.compensates:
        return found
    grouped = target.grouped
    codes, scale = descend_codes(
        grouped,
        target.gram.square,
        found.codes.double().reshape(grouped.shape),
        found.scale.double().reshape(grouped.shape[:2]),
        bits,
        None if mask is None else mask.reshape(grouped.shape),
    )
    settled = Codes(
        codes=codes.reshape(target.matrix.shape).to(torch.int8), scale=scale.flatten().float()
    )
    # A greedy order is better in the sum, not in every row: a few prefer GPTQ's.
    swept = target.refit(gptq(target, bits, mask))
    return target.refit(settled).or_better(swept).codes


def _joint(problem: Problem, choice: LayerChoice) -> Compressed:
    """Zeros and codes together, from what they give in turn, in either order."""
    start = METHODS["descent"](problem, choice)
    if start.mask is None or start.scale is None or not problem.target.gram.compensates:
        return start
    if choice.zeros.pattern != "element":
        return start  # blocks chosen in turns with their codes gained 0.1 to 3 % of the error
    scale, scaled = problem.row_scale(), problem.scaled()
    codes = Codes(codes=start.values, scale=(start.scale.double() * scale).float())
    free = descend(scaled, choice.weight_bits)
    kept = int(start.mask.sum())
    starts = (
        (codes, start.mask),
        zeros_among(scaled, choice.weight_bits, free, kept, problem.paths),
    )
    found, mask = improve_jointly(scaled, choice.weight_bits, starts)
    return Compressed(values=found.codes, scale=(found.scale / scale).float(), mask=mask)


METHODS: Mapping[Method, Solver] = {
    "rtn": _plain,
    "laq": _in_turn(_pathless(saliency), _loss_aware),
    "gptq": _in_turn(_pathless(sparse_gpt), gptq),
    "adaround": _in_turn(exact_obs, adaround),
    "obq": _in_turn(exact_obs, _greedy),
    "descent": _in_turn(exact_obs, descend),
    "joint": _joint,
}


def _prunes(choice: LayerChoice) -> bool:
    return choice.zeros.pattern != "dense" and choice.zeros.share > 0


def _changes_nothing(choice: LayerChoice) -> bool:
    return choice.weight_bits == 32 and not _prunes(choice)
