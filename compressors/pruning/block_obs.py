"""Exact Optimal Brain Surgeon on blocks of columns: the path by which each row loses its blocks.

Kurtic et al. 2022, arXiv:2203.07259: removing the block B of a row costs w_B^T ([H^-1]_BB)^-1 w_B after
the rest has made up for it. Removed one after the other, its columns cost just that together, and leave
the same weights and inverse Gram; so `obs.Rows` settles them, and only the corners [H^-1]_BB are kept
up to date here to find the block that comes next.
"""

from __future__ import annotations

import torch
from torch import Tensor

from paredown.compressors.pruning.obs import Rows, path_of
from paredown.compressors.pruning.paths import Path
from paredown.compressors.rounding.target import Target
from paredown.spaces.candidates.zeros import BLOCK


def block_path(target: Target) -> Path:
    """The whole path of every row of (R, K) in blocks, cheapest first; `order` holds block numbers.

    Columns at the end that fill no block stay. The Gram is (K, K) or (groups, K, K).
    """
    return path_of(target, _removals)


def corners(matrix: Tensor, unit: int) -> Tensor:
    """The square corners (..., K // unit, unit, unit) along the diagonal of `matrix` (..., K, K)."""
    count = matrix.shape[-1] // unit
    whole = matrix[..., : count * unit, : count * unit]
    tiles = whole.unflatten(-1, (count, unit)).unflatten(-3, (count, unit))
    return tiles.diagonal(dim1=-4, dim2=-2).movedim(-1, -3)


def removal_costs(weight: Tensor, corner: Tensor) -> Tensor:
    """What each block costs: w_B^T C^-1 w_B, (..., n), by eliminating its columns in turn.

    Args:
        weight: (..., n, unit).
        corner: C = [H^-1]_BB, (..., n, unit, unit), of as many dimensions or broadcast to them.
    """
    left, corner = weight.clone(), corner.clone()
    unit = weight.shape[-1]
    cost = torch.zeros_like(left[..., 0])
    tiny = torch.finfo(torch.float32).tiny
    for i in range(unit):
        pivot = corner[..., i, i].clamp_min(tiny)
        cost += left[..., i].square() / pivot
        share = corner[..., i + 1 :, i] / pivot.unsqueeze(-1)
        left[..., i + 1 :] -= share * left[..., i : i + 1]
        corner[..., i + 1 :, i + 1 :] -= share.unsqueeze(-1) * corner[..., i : i + 1, i + 1 :]
    return cost


def _removals(weight: Tensor, inverse: Tensor, dead: Tensor) -> tuple[Tensor, Tensor]:
    rows, columns = weight.shape
    steps = columns // BLOCK
    # A dead input's weights cost nothing.
    state = Rows(weight.masked_fill(dead, 0.0), inverse)
    corner = corners(state.inverse, BLOCK).clone()
    order = torch.empty(rows, steps, dtype=torch.int64, device=weight.device)
    cost = torch.empty(rows, steps, dtype=torch.float32, device=weight.device)
    for step in range(steps):
        if state.make_room_(BLOCK):
            corner = corners(state.inverse, BLOCK).clone()
        whole = corner.shape[1] * BLOCK
        costs = removal_costs(state.weight[:, :whole].unflatten(1, (-1, BLOCK)), corner)
        costs.masked_fill_(state.is_settled[:, :whole:BLOCK], torch.inf)
        cost[:, step], block = costs.min(dim=1)
        first = block * BLOCK
        order[:, step] = state.columns[state.index, first] // BLOCK
        for offset in range(BLOCK):
            gone = state.settle_(first + offset, 0.0)[:, :whole].unflatten(1, (-1, BLOCK))
            corner.addcmul_(gone.unsqueeze(3), gone.unsqueeze(2), value=-1)
    return order, cost
