"""Which weights to keep, and what the kept ones become: magnitude pruning and SparseGPT.

Patterns: "element" keeps exactly n - round(sparsity * n) weights of the whole matrix. "2:4" keeps
two of every four neighbouring columns in each row, whatever `sparsity` says; the last K mod 4
columns, which fill no group of four, stay dense.
"""

from __future__ import annotations

import torch
from torch import Tensor

from paredown.compressors.gptq import inverse_root
from paredown.compressors.matrix import SolverError, gram_diagonal, row_errors, split_groups
from paredown.spaces.candidate import Pattern

_BLOCK = 64
"""Columns among which SparseGPT chooses at a time; a multiple of four."""


def kept_count(shape: tuple[int, int], sparsity: float, pattern: Pattern) -> int:
    """Number of weights that either method keeps of a matrix (R, K)."""
    rows, columns = shape
    if pattern == "2:4":
        return rows * (columns - columns // 4 * 2)
    # In this order: float products do not associate, and bytes are counted from the same formula.
    return rows * columns - round(sparsity * (rows * columns))


def magnitude(
    weight: Tensor, sparsity: float, pattern: Pattern = "element"
) -> tuple[Tensor, Tensor]:
    """The weight (R, K) with its smallest entries zero, and the boolean mask of kept entries.

    Ties are broken by position, earlier entries going first.
    """
    _check(sparsity, pattern)
    score = weight.abs()
    if pattern == "2:4":
        mask = _two_of_four(score)
    else:
        mask = _largest(score, kept_count(_shape(weight), sparsity, pattern))
    return weight * mask, mask


def sparse_gpt(
    weight: Tensor, gram: Tensor, sparsity: float, pattern: Pattern = "element"
) -> tuple[Tensor, Tensor]:
    """Pruned weight (R, K) and mask with an output error at most that of magnitude pruning.

    SparseGPT (Frantar and Alistarh 2023, arXiv:2301.00774): columns from left to right, the
    smallest w^2 / U_ii^2 of each block of columns pruned, the columns to come compensating. How
    many go in a block is read off the OBS scores of the whole matrix before the sweep, so that the
    total is exact and blocks that matter lose less.
    """
    _check(sparsity, pattern)
    plain, plain_mask = magnitude(weight, sparsity, pattern)
    if gram.ndim == 1:
        # Inputs are never active together: nothing to compensate, the score is exact.
        score = weight.double().square() * gram_diagonal(gram, len(weight))
        kept = kept_count(_shape(weight), sparsity, pattern)
        mask = _two_of_four(score) if pattern == "2:4" else _largest(score, kept)
        pruned = weight * mask
    else:
        pruned, mask = _sweep(weight, gram, sparsity, pattern)
    error = row_errors(pruned - weight, gram).sum()
    if error <= row_errors(plain - weight, gram).sum():
        return pruned, mask
    return plain, plain_mask


def _sweep(
    weight: Tensor, gram: Tensor, sparsity: float, pattern: Pattern
) -> tuple[Tensor, Tensor]:
    grouped, gram = split_groups(weight.double(), gram)
    root = inverse_root(gram)
    # A dead input's weights cost nothing and go first.
    dead = gram.diagonal(dim1=1, dim2=2).unsqueeze(1) <= 0
    pivots = root.diagonal(dim1=1, dim2=2).unsqueeze(1).masked_fill(dead, torch.inf)
    left = grouped.clone()
    mask = torch.ones_like(left, dtype=torch.bool)
    inverse_diagonal = root.square().sum(dim=1).unsqueeze(1).masked_fill(dead, torch.inf)
    counts = _counts_per_block(grouped.square() / inverse_diagonal, sparsity)
    whole_fours = left.shape[2] // 4 * 4
    for block, start in enumerate(range(0, left.shape[2], _BLOCK)):
        stop = min(start + _BLOCK, left.shape[2])
        if pattern == "element":
            score = left[:, :, start:stop].square() / pivots[:, :, start:stop].square()
            mask[:, :, start:stop] = _largest(score, score.numel() - counts[block])
        errors = torch.empty_like(left[:, :, start:stop])
        for i in range(start, stop):
            if pattern == "2:4" and i % 4 == 0 and i < whole_fours:
                score = left[:, :, i : i + 4].square() / pivots[:, :, i : i + 4].square()
                mask[:, :, i : i + 4] = _two_of_four(score)
            gone = torch.where(mask[:, :, i], 0.0, left[:, :, i])
            error = gone / root[:, i, i].unsqueeze(1)
            left[:, :, i:stop] -= error.unsqueeze(2) * root[:, i, i:stop].unsqueeze(1)
            errors[:, :, i - start] = error
        left[:, :, stop:] -= errors @ root[:, start:stop, stop:]
    pruned = (left * mask).reshape(weight.shape).to(weight.dtype)
    return pruned, mask.reshape(weight.shape)


def _counts_per_block(score: Tensor, sparsity: float) -> list[int]:
    """How many of the matrix's smallest scores lie in each block of columns."""
    removed = ~_largest(score, score.numel() - round(sparsity * score.numel()))
    return [int(part.sum()) for part in removed.split(_BLOCK, dim=2)]


def _largest(score: Tensor, count: int) -> Tensor:
    order = score.flatten().argsort(stable=True)
    mask = torch.ones(score.numel(), dtype=torch.bool, device=score.device)
    mask[order[: score.numel() - count]] = False
    return mask.view(score.shape)


def _two_of_four(score: Tensor) -> Tensor:
    """Mask of the two largest in every whole group of four along the last dimension."""
    whole = score.shape[-1] // 4 * 4
    mask = torch.ones_like(score, dtype=torch.bool)
    fours = score[..., :whole].unflatten(-1, (-1, 4))
    smallest = fours.argsort(dim=-1, stable=True)[..., :2]
    kept = torch.ones_like(fours, dtype=torch.bool).scatter_(-1, smallest, False)
    mask[..., :whole] = kept.flatten(-2)
    return mask


def _shape(weight: Tensor) -> tuple[int, int]:
    return weight.shape[0], weight.shape[1]


def _check(sparsity: float, pattern: Pattern) -> None:
    if not 0.0 <= sparsity < 1.0:
        raise SolverError(f"sparsity must be in [0, 1), got {sparsity}; give the share of zeros")
    if pattern == "dense":
        raise SolverError("pattern 'dense' prunes nothing; use 'element' or '2:4'")
