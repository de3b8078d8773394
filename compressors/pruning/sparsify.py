"""Which weights to keep, and what the kept ones become: magnitude, saliency, SparseGPT, exact OBS.

Patterns and their counts are those of `spaces/candidates/zeros.py`: single weights or blocks of columns
compete over the whole matrix, "N:M" chooses within every group of M.
"""

from __future__ import annotations

import torch
from torch import Tensor

from paredown.compressors.matrix.algebra import SolverError, gram_diagonal, row_errors
from paredown.compressors.matrix.selection import smallest
from paredown.compressors.pruning.block_obs import block_path, corners, removal_costs
from paredown.compressors.pruning.obs import refit_support, removal_path
from paredown.compressors.pruning.paths import Paths
from paredown.compressors.rounding.compensated import BLOCK, eliminate_
from paredown.compressors.rounding.target import Target
from paredown.spaces.candidates.zeros import UNITS, keep_of, kept_count

_AT_ONCE = BLOCK
"""Columns among which SparseGPT chooses at a time; a multiple of every M and of every block."""


def magnitude(weight: Tensor, sparsity: float, pattern: str = "element") -> tuple[Tensor, Tensor]:
    """The weight (R, K) with its smallest entries zero, and the boolean mask of kept entries.

    A block is as large as the sum of its squares. Ties are broken by position, earlier entries going
    first.
    """
    mask = _best(weight.double().square(), sparsity, pattern)
    return weight * mask, mask


def saliency(target: Target, sparsity: float, pattern: str = "element") -> tuple[Tensor, Tensor]:
    """OBD (LeCun et al. 1989): the smallest d w^2 go, d the Gram's diagonal; nothing compensates."""
    weight = target.matrix
    diagonal = gram_diagonal(target.gram.values, len(weight))
    mask = _best(weight.double().square() * diagonal, sparsity, pattern)
    return weight * mask, mask


def exact_obs(
    target: Target, sparsity: float, pattern: str, paths: Paths
) -> tuple[Tensor, Tensor]:
    """Pruned weight (R, K) and mask by exact OBS (`obs.py`, `block_obs.py`), the rest refitted.

    The pruning path does not depend on the sparsity: `paths` keeps it. At most magnitude's error.
    """
    _check(sparsity, pattern)
    weight, gram = target.matrix, target.gram.values
    plain, plain_mask = magnitude(weight, sparsity, pattern)
    if not target.gram.compensates:
        pruned, mask = saliency(target, sparsity, pattern)
    else:
        mask = _obs_mask(target, sparsity, pattern, paths)
        pruned = refit_support(weight, gram, mask)
    error = row_errors(pruned - weight, gram).sum()
    if error <= row_errors(plain - weight, gram).sum():
        return pruned, mask
    return plain, plain_mask


def _obs_mask(target: Target, sparsity: float, pattern: str, paths: Paths) -> Tensor:
    rows, columns = target.matrix.shape
    removed = rows * columns - kept_count(rows, columns, sparsity, pattern)
    if pattern == "block":
        unit = UNITS[pattern]
        if columns < unit:
            return torch.ones_like(target.matrix, dtype=torch.bool)
        path = paths.get(target, pattern, lambda: block_path(target))
        return _spread(path.mask(removed // unit, columns // unit), columns, unit)
    keep, of = (0, 0) if pattern in UNITS else keep_of(pattern)
    path = paths.get(target, pattern, lambda: removal_path(target, keep, of))
    return path.mask(removed, columns)


def sparse_gpt(target: Target, sparsity: float, pattern: str = "element") -> tuple[Tensor, Tensor]:
    """Pruned weight (R, K) and mask with an output error at most that of magnitude pruning.

    SparseGPT (Frantar and Alistarh 2023, arXiv:2301.00774): columns from left to right, the
    smallest w^2 / U_ii^2 of each 64 columns pruned, the columns to come compensating. How many go
    among them is read off the OBS scores of the whole matrix before the sweep, so that the total is
    exact and columns that matter lose less. Blocks go by their joint cost w_B^T (U_BB^T U_BB)^-1 w_B.
    """
    _check(sparsity, pattern)
    weight, gram = target.matrix, target.gram.values
    plain, plain_mask = magnitude(weight, sparsity, pattern)
    if not target.gram.compensates:
        # Nothing compensates, and of inputs that are never active together the score is exact.
        pruned, mask = saliency(target, sparsity, pattern)
    else:
        pruned, mask = _sweep(target, sparsity, pattern)
    error = row_errors(pruned - weight, gram).sum()
    if error <= row_errors(plain - weight, gram).sum():
        return pruned, mask
    return plain, plain_mask


def _sweep(target: Target, sparsity: float, pattern: str) -> tuple[Tensor, Tensor]:
    weight, gram, root = target.matrix, target.gram.square, target.gram.inverse_root
    left = target.grouped.transpose(1, 2).contiguous()
    # A dead input's weights cost nothing and go first.
    dead = (gram.diagonal(dim1=1, dim2=2) <= 0).unsqueeze(2)
    mask = torch.ones_like(left, dtype=torch.bool)
    unit = UNITS.get(pattern, 1)
    counts = _counts_at_once(left.masked_fill(dead, 0.0), root, sparsity, unit)
    keep, of = (0, 1) if pattern in UNITS else keep_of(pattern)
    whole = left.shape[1] // of * of
    pivots = root.diagonal(dim1=1, dim2=2).square().unsqueeze(2).masked_fill(dead, torch.inf)

    def _choose(start: int, stop: int) -> None:
        if pattern in UNITS and stop - start >= unit:  # fewer columns at the end fill no block
            tip = corners(root[:, start:stop, start:stop], unit)
            own = left[:, start:stop].masked_fill(dead[:, start:stop], 0.0)
            score = _unit_costs(own, tip.transpose(-1, -2) @ tip, unit)
            chosen = _largest(score, score.numel() - counts[start // _AT_ONCE])
            mask[:, start:stop] = _spread(chosen, stop - start, unit).transpose(1, 2)

    def _settle(i: int, column: Tensor) -> Tensor:
        if keep and i % of == 0 and i < whole:
            score = (left[:, i : i + of].square() / pivots[:, i : i + of]).transpose(1, 2)
            mask[:, i : i + of] = _largest_of_each(score, keep, of).transpose(1, 2)
        return torch.where(mask[:, i], column, 0.0)

    eliminate_(left, root, _settle, _choose)
    pruned = (left * mask).transpose(1, 2).reshape(weight.shape).to(weight.dtype)
    return pruned.contiguous(), mask.transpose(1, 2).reshape(weight.shape).contiguous()


def _counts_at_once(left: Tensor, root: Tensor, sparsity: float, unit: int) -> list[int]:
    """How many of the matrix's cheapest units lie in each run of columns that is chosen from."""
    columns = left.shape[1]
    tiles = root[..., : columns // unit * unit].unflatten(2, (-1, unit)).transpose(1, 2)
    cost = _unit_costs(left, tiles.transpose(2, 3) @ tiles, unit)
    removed = smallest(cost, round(sparsity * cost.numel()))
    return [int(part.sum()) for part in removed.split(_AT_ONCE // unit, dim=2)]


def _unit_costs(left: Tensor, corner: Tensor, unit: int) -> Tensor:
    """OBS costs (groups, rows, n) of the n units of `left` (groups, columns, rows).

    Args:
        corner: The inverse Gram at each unit, (groups, n, unit, unit).
    """
    whole = corner.shape[1] * unit
    weight = left[:, :whole].transpose(1, 2).unflatten(2, (-1, unit))
    return removal_costs(weight, corner.unsqueeze(1))


def _spread(units: Tensor, columns: int, unit: int) -> Tensor:
    """The mask (..., columns) of kept units (..., n); what fills no unit is kept."""
    mask = units.new_ones(*units.shape[:-1], columns)
    mask[..., : units.shape[-1] * unit] = units.repeat_interleave(unit, dim=-1)
    return mask


def _largest(score: Tensor, count: int) -> Tensor:
    return ~smallest(score, score.numel() - count)


def _best(score: Tensor, sparsity: float, pattern: str) -> Tensor:
    """Mask of the weights (R, K) with the largest scores."""
    _check(sparsity, pattern)
    if pattern not in UNITS:
        return _largest_of_each(score, *keep_of(pattern))
    unit, (rows, columns) = UNITS[pattern], score.shape
    whole = columns // unit * unit
    sums = score[:, :whole].unflatten(1, (whole // unit, unit)).sum(dim=2)
    removed = rows * columns - kept_count(rows, columns, sparsity, pattern)
    return _spread(~smallest(sums, removed // unit), columns, unit)


def _largest_of_each(score: Tensor, keep: int, of: int) -> Tensor:
    """Mask of the `keep` largest in every whole group of `of` along the last dimension."""
    whole = score.shape[-1] // of * of
    mask = torch.ones_like(score, dtype=torch.bool)
    groups = score[..., :whole].unflatten(-1, (-1, of))
    smallest = groups.argsort(dim=-1, stable=True)[..., : of - keep]
    kept = torch.ones_like(groups, dtype=torch.bool).scatter_(-1, smallest, False)
    mask[..., :whole] = kept.flatten(-2)
    return mask


def _check(sparsity: float, pattern: str) -> None:
    if not 0.0 <= sparsity < 1.0:
        raise SolverError(f"sparsity must be in [0, 1), got {sparsity}; give the share of zeros")
    if pattern not in UNITS and _AT_ONCE % keep_of(pattern)[1]:
        raise SolverError(
            f"pattern 'N:M' must have a power of two up to {_AT_ONCE} for M, got {pattern!r}; use "
            "'2:4'"
        )
