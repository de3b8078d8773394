"""Which weights to keep, and what the kept ones become: magnitude, saliency, SparseGPT, exact OBS.

Patterns: "element" keeps exactly n - round(sparsity * n) weights of the whole matrix. "N:M", such as
"2:4", keeps N of every M neighbouring columns in each row, whatever `sparsity` says; the last K mod
M columns, which fill no group, stay dense.
"""

from __future__ import annotations

import torch
from torch import Tensor

from paredown.compressors.gptq import BLOCK, eliminate_, inverse_root
from paredown.compressors.matrix import SolverError, gram_diagonal, row_errors, split_groups
from paredown.compressors.obs import refit_support, removal_path
from paredown.compressors.selection import smallest

_BLOCK = BLOCK
"""Columns among which SparseGPT chooses at a time; a multiple of every M."""


def kept_count(shape: tuple[int, int], sparsity: float, pattern: str) -> int:
    """Number of weights that every method keeps of a matrix (R, K)."""
    rows, columns = shape
    if pattern != "element":
        keep, of = keep_of(pattern)
        return rows * (columns - columns // of * (of - keep))
    # In this order: float products do not associate, and bytes are counted from the same formula.
    return rows * columns - round(sparsity * (rows * columns))


def keep_of(pattern: str) -> tuple[int, int]:
    """N and M of a pattern "N:M".

    Raises:
        SolverError: Not of that form, or M is not a power of two up to 64 above N.

    >>> keep_of("2:4")
    (2, 4)
    """
    keep, _, of = pattern.partition(":")
    if keep.isdecimal() and of.isdecimal() and 0 < int(keep) < int(of) and _BLOCK % int(of) == 0:
        return int(keep), int(of)
    raise SolverError(
        f"pattern must be 'element' or 'N:M' with N < M and M a power of two up to {_BLOCK}, got "
        f"{pattern!r}; use 'element' or '2:4'"
    )


def magnitude(weight: Tensor, sparsity: float, pattern: str = "element") -> tuple[Tensor, Tensor]:
    """The weight (R, K) with its smallest entries zero, and the boolean mask of kept entries.

    Ties are broken by position, earlier entries going first.
    """
    mask = _best(weight.abs(), sparsity, pattern)
    return weight * mask, mask


def saliency(
    weight: Tensor, gram: Tensor, sparsity: float, pattern: str = "element"
) -> tuple[Tensor, Tensor]:
    """OBD (LeCun et al. 1989): the smallest d w^2 go, d the Gram's diagonal; nothing compensates."""
    diagonal = gram_diagonal(gram, len(weight))
    mask = _best(weight.double().square() * diagonal, sparsity, pattern)
    return weight * mask, mask


def exact_obs(
    weight: Tensor, gram: Tensor, sparsity: float, pattern: str = "element"
) -> tuple[Tensor, Tensor]:
    """Pruned weight (R, K) and mask by exact OBS (`obs.py`), the kept weights refitted.

    The pruning path does not depend on the sparsity and is remembered. At most magnitude's error.
    """
    _check(sparsity, pattern)
    plain, plain_mask = magnitude(weight, sparsity, pattern)
    if gram.ndim == 1:
        pruned, mask = saliency(weight, gram, sparsity, pattern)
    else:
        keep, of = (0, 0) if pattern == "element" else keep_of(pattern)
        removed = weight.numel() - kept_count(_shape(weight), sparsity, pattern)
        mask = removal_path(weight, gram, keep, of).mask(removed, weight.shape[1])
        pruned = refit_support(weight, gram, mask)
    error = row_errors(pruned - weight, gram).sum()
    if error <= row_errors(plain - weight, gram).sum():
        return pruned, mask
    return plain, plain_mask


def sparse_gpt(
    weight: Tensor, gram: Tensor, sparsity: float, pattern: str = "element"
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
        pruned, mask = saliency(weight, gram, sparsity, pattern)
    else:
        pruned, mask = _sweep(weight, gram, sparsity, pattern)
    error = row_errors(pruned - weight, gram).sum()
    if error <= row_errors(plain - weight, gram).sum():
        return pruned, mask
    return plain, plain_mask


def _sweep(weight: Tensor, gram: Tensor, sparsity: float, pattern: str) -> tuple[Tensor, Tensor]:
    grouped, gram = split_groups(weight.double(), gram)
    root = inverse_root(gram)
    # A dead input's weights cost nothing and go first.
    dead = gram.diagonal(dim1=1, dim2=2) <= 0
    pivots = root.diagonal(dim1=1, dim2=2).square().masked_fill(dead, torch.inf).unsqueeze(2)
    left = grouped.transpose(1, 2).contiguous()
    mask = torch.ones_like(left, dtype=torch.bool)
    inverse_diagonal = root.square().sum(dim=1).masked_fill(dead, torch.inf).unsqueeze(1)
    counts = _counts_per_block(grouped.square() / inverse_diagonal, sparsity)
    keep, of = (0, 1) if pattern == "element" else keep_of(pattern)
    whole = left.shape[1] // of * of

    def choose(start: int, stop: int) -> None:
        if pattern == "element":
            score = (left[:, start:stop].square() / pivots[:, start:stop]).transpose(1, 2)
            chosen = _largest(score, score.numel() - counts[start // _BLOCK])
            mask[:, start:stop] = chosen.transpose(1, 2)

    def settle(i: int, column: Tensor) -> Tensor:
        if keep and i % of == 0 and i < whole:
            score = (left[:, i : i + of].square() / pivots[:, i : i + of]).transpose(1, 2)
            mask[:, i : i + of] = _largest_of_each(score, keep, of).transpose(1, 2)
        return torch.where(mask[:, i], column, 0.0)

    eliminate_(left, root, settle, choose)
    pruned = (left * mask).transpose(1, 2).reshape(weight.shape).to(weight.dtype)
    return pruned.contiguous(), mask.transpose(1, 2).reshape(weight.shape).contiguous()


def _counts_per_block(score: Tensor, sparsity: float) -> list[int]:
    """How many of the matrix's smallest scores lie in each block of columns."""
    removed = ~_largest(score, score.numel() - round(sparsity * score.numel()))
    return [int(part.sum()) for part in removed.split(_BLOCK, dim=2)]


def _largest(score: Tensor, count: int) -> Tensor:
    return ~smallest(score, score.numel() - count)


def _best(score: Tensor, sparsity: float, pattern: str) -> Tensor:
    """Mask of the weights (R, K) with the largest scores."""
    _check(sparsity, pattern)
    if pattern == "element":
        return _largest(score, kept_count(_shape(score), sparsity, pattern))
    return _largest_of_each(score, *keep_of(pattern))


def _largest_of_each(score: Tensor, keep: int, of: int) -> Tensor:
    """Mask of the `keep` largest in every whole group of `of` along the last dimension."""
    whole = score.shape[-1] // of * of
    mask = torch.ones_like(score, dtype=torch.bool)
    groups = score[..., :whole].unflatten(-1, (-1, of))
    smallest = groups.argsort(dim=-1, stable=True)[..., : of - keep]
    kept = torch.ones_like(groups, dtype=torch.bool).scatter_(-1, smallest, False)
    mask[..., :whole] = kept.flatten(-2)
    return mask


def _shape(weight: Tensor) -> tuple[int, int]:
    return weight.shape[0], weight.shape[1]


def _check(sparsity: float, pattern: str) -> None:
    if not 0.0 <= sparsity < 1.0:
        raise SolverError(f"sparsity must be in [0, 1), got {sparsity}; give the share of zeros")
    if pattern != "element":
        keep_of(pattern)
