"""Exact Optimal Brain Surgeon, row by row: pruning paths that give every sparsity, and greedy rounding.

Frantar and Alistarh 2022, arXiv:2208.11580. Removing weight p from a row costs w_p^2 / [H^-1]_pp after
the rest has made up for it, and H^-1 loses the rank-one part u u^T with u = [H^-1]_:p / sqrt([H^-1]_pp).
Taken together the u are a Cholesky factor of H^-1 with each row's own pivots, so only the column at
stake is brought up to date, for all rows at once; after some steps H^-1 is written out for each row
without what is settled, in one matrix product, so that a step reads few factors.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from paredown.compressors.matrix.algebra import (
    damped_cholesky,
    gram_diagonal,
    power_of_two,
    split_groups,
)
from paredown.compressors.pruning.paths import Path
from paredown.compressors.rounding.quantize import Codes, round_to_nearest, top_code
from paredown.compressors.rounding.target import Target

_CHUNK_VALUES = 2**23
"""Values of the inverse Grams of the rows that are worked on together: 32 MiB of float32."""
_STEPS = 64
"""Steps after which the inverse Grams are written out: between two, a step reads that many factors."""

Removals = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(rows (R, K) of one group, its inverse Gram, which inputs are dead) -> order and cost of a path."""


def removal_path(target: Target, keep: int = 0, of: int = 0) -> Path:
    """The whole pruning path of every row of (R, K), cheapest removal first.

    Args:
        target: Under a Gram (K, K) or (groups, K, K).
        keep: With `of`, an N:M pattern: this many of every `of` neighbouring columns always stay,
            and so do columns at the end that fill no group.
    """
    return path_of(target, functools.partial(_removals, keep=keep, of=of))


def path_of(target: Target, removals: Removals) -> Path:
    """The path of all rows of (R, K) by `removals`."""
    grouped, square = target.grouped, target.gram.square
    units = power_of_two(grouped)
    parts = [removals(*chunk) for chunk in _chunks((grouped / units).float(), square)]
    unit = units.square() * power_of_two(square.diagonal(dim1=1, dim2=2)).unsqueeze(2)
    return Path(
        order=torch.cat([order for order, _ in parts]).int(),
        cost=torch.cat([cost for _, cost in parts]).double() * unit.flatten(0, 1),
    )


def refit_support(weight: Tensor, gram: Tensor, mask: Tensor) -> Tensor:
    """The weights (R, K) on each row's own support that keep the outputs best; zero elsewhere.

    Least squares with a pull towards the weights as they are, whose error under `gram` is therefore
    never exceeded. It is where OBS ends on that support, in whatever order.
    """
    grouped, square = split_groups(weight.double(), gram)
    kept = mask.reshape(grouped.shape)
    columns = grouped.shape[2]
    at_once = max(1, _CHUNK_VALUES // columns**2)
    parts = []
    for group, h in enumerate(square):
        for rows, own in zip(
            grouped[group].split(at_once), kept[group].split(at_once), strict=True
        ):
            missing = torch.where(own, 0.0, rows) @ h
            inside = h * (own.unsqueeze(1) & own.unsqueeze(2))
            factor = damped_cholesky(inside)
            moved = torch.cholesky_solve((missing * own).unsqueeze(2), factor).squeeze(2)
            parts.append(torch.where(own, rows + moved, 0.0))
    return torch.cat(parts).reshape(weight.shape).to(weight.dtype)


def obq(target: Target, bits: int, mask: Tensor | None = None) -> Codes:
    """Codes of (R, K) by Optimal Brain Quantizer: each row rounds its cheapest weight first.

    A weight pushed further from its code than half a step goes at once. Slower than GPTQ by the
    order that each row has to itself. Row by row the better of it and rounding to nearest.
    """
    kept = target.weight if mask is None else target.weight * mask
    nearest = round_to_nearest(kept, bits, gram_diagonal(target.gram.values, len(kept)))
    plain = target.refit(nearest)
    if not target.gram.compensates:
        return plain.codes
    grouped, square = target.grouped, target.gram.square
    units = power_of_two(grouped)
    grouped = (grouped / units).float()
    scales = (nearest.scale.double().reshape(units.shape[:2]) / units.squeeze(2)).float()
    allowed = torch.ones_like(grouped, dtype=torch.bool)
    if mask is not None:
        allowed = mask.reshape(grouped.shape)
    parts = [
        _round_greedily(rows, inverse, scale, own, top_code(bits))
        for (rows, inverse, _), scale, own in zip(
            _chunks(grouped, square),
            _row_chunks(scales, grouped.shape[2]),
            _row_chunks(allowed, grouped.shape[2]),
            strict=True,
        )
    ]
    found = Codes(codes=torch.cat(parts).to(torch.int8), scale=nearest.scale)
    return target.refit(found).or_better(plain).codes


class Rows:
    """Rows of one group while their weights are settled one by one; float32.

    `columns` (R, n) says which columns each row has left at the places that all else is indexed by.
    """

    def __init__(self, weight: Tensor, inverse: Tensor) -> None:
        rows, count = weight.shape
        self.weight = weight.clone()
        self.columns = torch.arange(count, device=weight.device).expand(rows, -1)
        self.inverse = inverse.expand(rows, -1, -1)
        self.diagonal = inverse.diagonal().expand_as(weight).clone()
        self.index = torch.arange(rows, device=weight.device)
        self._begin()

    def make_room_(self, count: int = 1) -> bool:
        """Whether columns had to be forgotten so that `count` more can be settled at their places."""
        is_full = self.done + count > _STEPS
        if is_full:
            self._forget_settled()
        return is_full

    def settle_(self, place: Tensor, value: Tensor | float) -> Tensor:
        """Sets one weight of each row, at `place` (R,), to `value`; the others make up for it.

        Returns u (R, n): each row's inverse Gram has lost u u^T.
        """
        before = self.factors[:, : self.done]
        share = before[self.index, :, place]
        own = self.inverse[self.index, place] - torch.bmm(share.unsqueeze(1), before).squeeze(1)
        pivot = self.diagonal[self.index, place].clamp_min(torch.finfo(own.dtype).tiny)
        factor = own / pivot.sqrt().unsqueeze(1)
        error = (self.weight[self.index, place] - value) / pivot
        self.weight -= error.unsqueeze(1) * own
        self.diagonal -= factor.square()
        self.factors[:, self.done] = factor
        self.is_settled[self.index, place] = True
        self.done += 1
        return factor

    def _begin(self) -> None:
        self.factors = self.weight.new_empty(len(self.weight), _STEPS, self.weight.shape[1])
        self.is_settled = torch.zeros_like(self.weight, dtype=torch.bool)
        self.done = 0

    def _forget_settled(self) -> None:
        """Writes out each row's inverse Gram for the columns that are left."""
        left = (~self.is_settled).nonzero()[:, 1].view(len(self.weight), -1)
        across = left.unsqueeze(1)
        factors = self.factors[:, : self.done].gather(2, across.expand(-1, self.done, -1))
        inverse = self.inverse[self.index.unsqueeze(1), left]
        inverse = inverse.gather(2, across.expand(-1, left.shape[1], -1))
        self.inverse = inverse.baddbmm_(factors.transpose(1, 2), factors, alpha=-1)
        self.diagonal = self.inverse.diagonal(dim1=1, dim2=2).clone()
        self.weight = self.weight.gather(1, left)
        self.columns = self.columns.gather(1, left)
        self._begin()


def _removals(
    weight: Tensor, inverse: Tensor, dead: Tensor, keep: int, of: int
) -> tuple[Tensor, Tensor]:
    rows, columns = weight.shape
    whole = columns // of * of if of else columns
    steps = whole // of * (of - keep) if of else columns
    state = Rows(weight, inverse)
    is_open = torch.ones_like(weight, dtype=torch.bool)
    is_open[:, whole:] = False
    gone = weight.new_zeros(rows, columns // of if of else 1, dtype=torch.int64)
    order = torch.empty(rows, steps, dtype=torch.int64, device=weight.device)
    cost = torch.empty(rows, steps, dtype=torch.float32, device=weight.device)
    tiny = torch.finfo(weight.dtype).tiny
    for step in range(steps):
        state.make_room_()
        score = state.weight.square() / state.diagonal.clamp_min(tiny)
        # A dead input's weights cost nothing and go first.
        score.masked_fill_(dead[state.columns], 0.0)
        score.masked_fill_(~is_open.gather(1, state.columns), torch.inf)
        cost[:, step], place = score.min(dim=1)
        column = state.columns[state.index, place]
        order[:, step] = column
        state.settle_(place, 0.0)
        is_open[state.index, column] = False
        if of:
            gone[state.index, column // of] += 1
            is_full = (gone >= of - keep).repeat_interleave(of, dim=1)
            is_open[:, :whole] &= ~is_full
    return order, cost


def _round_greedily(
    weight: Tensor, inverse: Tensor, scale: Tensor, allowed: Tensor, top: int
) -> Tensor:
    state = Rows(weight, inverse)
    codes = torch.zeros_like(weight)
    step = scale.unsqueeze(1)
    tiny = torch.finfo(weight.dtype).tiny
    for _ in range(weight.shape[1]):
        state.make_room_()
        may = allowed.gather(1, state.columns)
        nearest = torch.round(state.weight / step).clamp_(-top, top) * may
        error = state.weight - nearest * step
        score = error.square() / state.diagonal.clamp_min(tiny)
        # First what is pruned, then what lies outside the codes' range, then the cheapest.
        score = torch.where(may & (error.abs() > step / 2), -error.abs(), score)
        score = torch.where(may, score, -torch.inf).masked_fill_(state.is_settled, torch.inf)
        place = score.argmin(dim=1)
        chosen = nearest[state.index, place]
        codes[state.index, state.columns[state.index, place]] = chosen
        state.settle_(place, chosen * scale)
    return codes


def _chunks(grouped: Tensor, gram: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Rows of one group, its inverse Gram, and which inputs are dead; groups in order.

    Inverse Grams count in `power_of_two` of the Gram's diagonal.
    """
    units = power_of_two(gram.diagonal(dim1=1, dim2=2)).unsqueeze(2)
    inverses = (torch.cholesky_inverse(damped_cholesky(gram)) * units).float()
    for group, inverse in enumerate(inverses):
        dead = gram[group].diagonal() <= 0
        for rows in grouped[group].split(_at_once(grouped.shape[2])):
            yield rows, inverse, dead


def _row_chunks(values: Tensor, columns: int) -> Iterator[Tensor]:
    for group in values:
        yield from group.split(_at_once(columns))


def _at_once(columns: int) -> int:
    return max(1, _CHUNK_VALUES // columns**2)
