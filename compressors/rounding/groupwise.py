"""Codes with one scale for every group of consecutive columns of a row: found, and refitted.

The group size of GPTQ (Frantar et al. 2022, arXiv:2210.17323). A scale is fixed before the sweep, or when
it enters the group, from the weights as they have become by then; each row takes what is better for it.
Once the codes stand, all scales of a row follow from least squares under the Gram matrix: a system as
large as a row has groups. Only plain Grams (K, K) occur, those of linear layers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from paredown.compressors.matrix.algebra import SolverError, gram_diagonal, is_root, row_errors
from paredown.compressors.matrix.gram import in_groups
from paredown.compressors.rounding.compensated import eliminate_, gptq, sweep
from paredown.compressors.rounding.descent import descend, sweep_columns_
from paredown.compressors.rounding.quantize import (
    Codes,
    by_column,
    nearest_codes_,
    round_to_nearest,
)
from paredown.compressors.rounding.target import Target
from paredown.spaces.candidates.candidate import GROUPED_METHODS, LayerChoice, Method
from paredown.spaces.candidates.scale_groups import effective_size, group_count, size_of

_SWEEPS = 8
_RIDGE = 1e-9
"""Share of its diagonal added to a row's system: scales of groups that say the same stay finite."""
_ROWS_AT_ONCE = 128


def round_groups(weight: Tensor, bits: int, size: int, diagonal: Tensor | None = None) -> Codes:
    """Codes (R, K) and scales (R, groups) of least weighted error: `round_to_nearest` by group.

    Args:
        diagonal: Curvature >= 0 that broadcasts to the weight; None weighs alike.
    """
    rows, columns = weight.shape
    weighs = torch.ones_like(weight) if diagonal is None else diagonal.expand_as(weight)
    # Columns that fill the last group weigh nothing: no scale gains or loses by them.
    whole, weighs = (in_groups(each, size).flatten(0, 1) for each in (weight, weighs))
    found = round_to_nearest(whole, bits, weighs)
    codes = found.codes.reshape(rows, -1)[:, :columns].contiguous()
    return Codes(codes=codes, scale=found.scale.reshape(rows, -1))


def loss_aware_groups(target: Target, bits: int, mask: Tensor | None, size: int) -> Codes:
    """LAQ group by group: rounding with scales that are best under the Gram's diagonal."""
    kept = target.matrix if mask is None else target.matrix * mask
    return round_groups(kept, bits, size, gram_diagonal(target.gram.values, len(kept)))


def gptq_groups(target: Target, bits: int, mask: Tensor | None, size: int) -> Codes:
    """Codes whose error is at most that of rounding each group and of one scale a row, row by row.

    The best of three sweeps, each with its scales refitted: scales fixed when a group is entered; fixed
    beforehand, so that columns of all groups go in the order of their activity; and one scale a row.
    """
    nearest = loss_aware_groups(target, bits, mask, size)
    if is_root(target.gram.values):
        return nearest
    weight, gram = target.matrix, _plain(target.gram.values)
    starts = (
        nearest,
        _sweep(target, bits, mask, size),
        _sweep_in_any_order(nearest, target, bits, mask),
        _spread(gptq(target, bits, mask), size),
    )
    found = [refit_scales(start, weight, gram) for start in starts]
    return functools.reduce(lambda best, each: _better(each, best, weight, gram), found)


def descend_groups(target: Target, bits: int, mask: Tensor | None, size: int) -> Codes:
    """Codes whose error is at most that of `gptq_groups` and of `descend`, row by row.

    Every code is set anew in turn, from where either of them ends.
    """
    weight, gram = target.matrix, target.gram.values
    if is_root(gram):
        return loss_aware_groups(target, bits, mask, size)
    starts = (
        gptq_groups(target, bits, mask, size),
        refit_scales(_spread(descend(target, bits, mask), size), weight, gram),
    )
    first, second = (settle_groups(start, weight, gram, bits, mask) for start in starts)
    return _better(first, second, weight, gram)


GROUPED: Mapping[Method, Callable[[Target, int, Tensor | None, int], Codes]] = {
    "laq": loss_aware_groups,
    "gptq": gptq_groups,
    "descent": descend_groups,
}
"""What finds the codes that a mask leaves, by method; "rtn" is `round_groups`."""


def with_real_groups(choice: LayerChoice, columns: int) -> LayerChoice:
    """The choice without groups where it has no codes, or where one group would hold a row.

    Raises:
        SolverError: Groups beside a method that finds one scale for each row.
    """
    bits, size = choice.weight_bits, effective_size(columns, choice.group_size)
    if size and bits < 32 and choice.method not in GROUPED_METHODS:
        raise SolverError(
            f"method must be one of {', '.join(GROUPED_METHODS)} beside group_size {size}, got "
            f"{choice.method}; take one of them, or group_size 0"
        )
    return choice if size and bits < 32 else replace(choice, group_size=0)


def settle_groups(
    start: Codes,
    weight: Tensor,
    gram: Tensor,
    bits: int,
    mask: Tensor | None,
    sweeps: int = _SWEEPS,
) -> Codes:
    """Coordinate descent on codes (R, K), scales (R, groups) refitted between the sweeps.

    No step raises a row's error; each row is the better of where it began and where it ended.
    """
    gram = _plain(gram)
    target = weight.double().t().unsqueeze(0).contiguous()
    allowed = None if mask is None else mask.t().unsqueeze(0).double().contiguous()

    def _settle(index: int, best: Tensor) -> Tensor:
        code = nearest_codes_(best, bits)
        return code if allowed is None else code.mul_(allowed[:, index])

    found = start
    for _ in range(sweeps):
        codes = found.codes.double().t().unsqueeze(0).contiguous()
        steps = by_column(found.scale.double(), weight.shape[1]).t().unsqueeze(0).contiguous()
        sweep_columns_(codes, target, gram.unsqueeze(0), steps, _settle)
        settled = codes[0].t().to(torch.int8).contiguous()
        if torch.equal(settled, found.codes):
            break
        found = refit_scales(Codes(codes=settled, scale=found.scale), weight, gram)
    return _better(found, start, weight, gram)


def refit_scales(found: Codes, weight: Tensor, gram: Tensor) -> Codes:
    """The codes with the scales (R, groups) of least error under `gram` (K, K).

    A scale below zero turns its codes' signs. A group of zeros keeps the scale it had; so does a row
    that would be no nearer.
    """
    gram = _plain(gram)
    columns, groups = weight.shape[1], found.scale.shape[1]
    size = size_of(columns, groups)
    parts = [
        _fitted(codes.double(), rows.double(), gram, size)
        for codes, rows in zip(
            found.codes.split(_ROWS_AT_ONCE), weight.split(_ROWS_AT_ONCE), strict=True
        )
    ]
    wanted = torch.cat(parts)
    least = torch.finfo(torch.float32).tiny
    scale = torch.where(wanted.abs() >= least, wanted, found.scale.double())
    signs = by_column(scale.sign(), columns)
    refitted = Codes(
        codes=(found.codes * signs).to(torch.int8), scale=scale.abs().to(torch.float32)
    )
    return _better(refitted, found, weight, gram)


def _fitted(codes: Tensor, weight: Tensor, gram: Tensor, size: int) -> Tensor:
    """Solutions (R, groups) of each row's normal equations; 0 for a group without codes."""
    rows, columns = codes.shape
    groups = group_count(columns, size)
    system = codes.new_empty(rows, groups, groups)
    for group in range(groups):
        own = slice(group * size, min((group + 1) * size, columns))
        system[:, group] = in_groups((codes[:, own] @ gram[own]) * codes, size).sum(dim=2)
    right = in_groups((weight @ gram) * codes, size).sum(dim=2)
    diagonal = system.diagonal(dim1=1, dim2=2)
    is_live = diagonal > 0
    system += torch.diag_embed(torch.where(is_live, _RIDGE * diagonal, 1.0))
    factor, info = torch.linalg.cholesky_ex(system)
    solved = torch.cholesky_solve(right.unsqueeze(2), factor).squeeze(2)
    return torch.where(is_live & (info == 0).unsqueeze(1), solved, 0.0)


def _sweep(target: Target, bits: int, mask: Tensor | None, size: int) -> Codes:
    """One pass of GPTQ, groups and the columns in them the most active first.

    A short last group stays the last, so that every group begins where a block does, or ends in it.
    """
    weight = target.weight
    rows, columns = weight.shape
    groups = group_count(columns, size)
    order, root = target.gram.groups_by_activity(size)
    left = weight.t()[order].unsqueeze(0).contiguous()
    allowed = None if mask is None else mask.t()[order].to(weight.dtype)
    weighs = target.gram.values.diagonal()[order]
    codes, scales = weight.new_empty(columns, rows), weight.new_empty(groups, rows)

    def _settle(index: int, column: Tensor) -> Tensor:
        if index % size == 0:
            own = slice(index, index + size)
            entered = left[0, own] if allowed is None else left[0, own] * allowed[own]
            found = round_to_nearest(entered.t().contiguous(), bits, weighs[own])
            scales[index // size] = found.scale.double()
        scale = scales[index // size]
        code = nearest_codes_(column / scale, bits)
        if allowed is not None:
            code = code * allowed[index]
        codes[index] = code
        return code * scale

    eliminate_(left, root, _settle)
    whole = torch.empty_like(codes)
    whole[order] = codes
    places = order[::size] // size
    ordered = torch.empty_like(scales)
    ordered[places] = scales
    return Codes(
        codes=whole.t().to(torch.int8).contiguous(), scale=ordered.t().float().contiguous()
    )


def _sweep_in_any_order(nearest: Codes, target: Target, bits: int, mask: Tensor | None) -> Codes:
    """One pass of GPTQ at the scales that rounding has, the most active columns of all first."""
    steps = by_column(nearest.scale.double(), target.matrix.shape[1]).unsqueeze(0)
    allowed = None if mask is None else mask.unsqueeze(0)
    codes = sweep(target.grouped, target.gram, steps, bits, allowed)
    return Codes(codes=codes[0].to(torch.int8), scale=nearest.scale)


def _spread(found: Codes, size: int) -> Codes:
    """The same matrix, every row's scale given to all its groups."""
    groups = group_count(found.codes.shape[1], size)
    return Codes(codes=found.codes, scale=found.scale.unsqueeze(1).repeat(1, groups))


def _better(first: Codes, second: Codes, weight: Tensor, gram: Tensor) -> Codes:
    """Row by row the one of lower error, the second where they tie."""
    errors = (row_errors(each.dense().double() - weight, gram) for each in (first, second))
    wins = torch.lt(*errors).unsqueeze(1)
    return Codes(
        codes=torch.where(wins, first.codes, second.codes),
        scale=torch.where(wins, first.scale, second.scale),
    )


def _plain(gram: Tensor) -> Tensor:
    """A Gram (K, K) in float64.

    Raises:
        SolverError: It has another form.
    """
    if gram.ndim != 2:
        raise SolverError(
            f"group_size takes one Gram matrix (K, K) for all rows, got {tuple(gram.shape)}; give "
            "layers that are not linear one scale for each output"
        )
    return gram.double()
