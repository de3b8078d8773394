"""A layer as a chain of thinner ones: the factors that change the layer's outputs least.

Every factor is a linear map of what it reads, and so of the layer's inputs: what follows sees their
Gram G as T G T^T exactly, whatever the form.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from paredown.compressors.matrix.algebra import (
    SolverError,
    damped_cholesky,
    row_errors,
    times_gram,
)
from paredown.compressors.statistics.layer_statistics import LayerStatistics
from paredown.spaces.candidates.factors import Chain

_ROUNDS, _STEPS = 2, 10
"""How often the first factor is improved, and by how many steps each time. On ResNet-20 at 60 and 25 %
of the weights "spatial" then loses 13 and 9 % less output energy, "tucker" 6 and 6 %; a third round
gains 1 %."""
_FIT_DAMPING = 1e-9
"""Share of the mean diagonal: inputs that are never seen get no weight, and nothing else moves."""


Spectrum = tuple[Tensor, Tensor]
"""Eigenvalues (R,), ascending, and eigenvectors (R, R) of W G W^T: all ranks of a weight share them."""


def spectrum_of(weight: Tensor, gram: Tensor) -> Spectrum:
    """The spectrum of a weight (R, K) under a Gram (K, K), or a diagonal (K,)."""
    wide = weight.double()
    energy, vectors = torch.linalg.eigh(times_gram(wide, gram) @ wide.t())
    return energy, vectors


def whitened_svd(
    weight: Tensor, gram: Tensor, rank: int, spectrum: Spectrum | None = None
) -> tuple[Tensor, Tensor]:
    """`first` (rank, K) and `second` (R, rank): second @ first is the best rank-`rank` weight.

    Best in output error tr(dW G dW^T), which equals the discarded singular energy. SVD-LLM (Wang
    et al. 2024, arXiv:2403.07378) takes the SVD of W S with G = S S^T; its left vectors U are the
    eigenvectors of W G W^T and the result is U_r U_r^T W, so S is neither built nor inverted and a
    singular Gram is no special case. The singular values are shared between the factors, so that
    per-row scales and 8-bit activations fit both.

    Args:
        weight: The matrix (R, K).
        gram: (K, K), or a diagonal (K,).
        rank: 1 to min(R, K).
        spectrum: Of the weight and the Gram, where it is known.

    Raises:
        SolverError: The rank is outside its range, or the Gram is a grouped one.
    """
    if not 1 <= rank <= min(weight.shape):
        raise SolverError(
            f"rank must be 1 to {min(weight.shape)}, got {rank}; lower rank_fraction"
        )
    if gram.ndim == 3:
        raise SolverError("a grouped convolution has no low-rank form; leave rank_fraction at 1")
    wide = weight.double()
    energy, vectors = spectrum or spectrum_of(weight, gram)
    energy, vectors = energy.flip(0)[:rank], vectors.flip(1)[:, :rank]
    singular = energy.clamp_min(0.0).sqrt()
    # Directions without energy would be divided by zero; their share does not matter.
    floor = singular[0] * 1e-6 if singular[0] > 0 else torch.ones_like(singular[0])
    share = singular.clamp_min(float(floor)).sqrt()
    first = (vectors.t() @ wide) / share.unsqueeze(1)
    second = vectors * share
    return first.to(weight.dtype), second.to(weight.dtype)


def discarded_energy(weight: Tensor, gram: Tensor) -> Tensor:
    """Output error left at each rank 0..R, (R + 1,): tail sums of squared singular values."""
    wide = weight.double()
    energy = torch.linalg.eigvalsh(times_gram(wide, gram) @ wide.t()).clamp_min(0.0)
    tails = torch.cat([energy.new_zeros(1), energy.cumsum(0)])
    return tails.flip(0)


def reading_energy(matrix: Tensor, gram: Tensor, width: int) -> Tensor:
    """Output error at each rank 0..min of a first factor that is not improved, and a refit after it.

    That first factor is the whitened start of `factorize`, and its rows at a lower rank are the leading
    ones at a higher, so one Cholesky factor has the refits of all ranks: least squares in more and more
    inputs, of which each removes its own part of the energy.

    Args:
        matrix: (R, K).
        gram: (K, K).
        width: Inputs that one output of the first factor reads; K is a multiple of it.
    """
    unfolded = _unfolded(matrix, width)
    rank = min(unfolded.shape)
    first, _ = whitened_svd(unfolded, gram_at_positions(gram, width), rank)
    through = spread(first, matrix.shape[1])
    seen = times_gram(through, gram)
    factor = damped_cholesky((seen @ through.t()).unsqueeze(0), _FIT_DAMPING)[0]
    removed = torch.linalg.solve_triangular(factor, seen @ matrix.double().t(), upper=False)
    by_rank = removed.square().sum(dim=1).reshape(rank, -1).sum(dim=1)
    energy = row_errors(matrix, gram).sum()
    return torch.cat([energy.reshape(1), (energy - by_rank.cumsum(0)).clamp_min(0.0)])


def factorize(
    matrix: Tensor, gram: Tensor, chain: Chain, spectrum: Spectrum | None = None
) -> tuple[Tensor, ...]:
    """One matrix for each link of the chain, which together lose little output energy.

    Each is (out, what one output reads); `compose` makes the whole of them. Where what follows is
    pointwise the first factor is the whitened SVD's, the optimum. Where it reads the first one's
    outputs at several positions there is no closed optimum: the first factor starts as the leading
    directions of the weight unfolded over those positions, whitened by the mean covariance of what
    is read there, or plain as in Jaderberg et al. (arXiv:1405.3866) and Kim et al.
    (arXiv:1511.06530). The better start is then improved in turn with what follows, which is exact
    for any first factor.

    Args:
        matrix: (R, K).
        gram: (K, K).
        spectrum: Of the matrix and the Gram, where it is known.
    """
    if len(chain) == 1:
        return (matrix,)
    rank, *read = chain[0].shape
    if math.prod(read) == matrix.shape[1]:
        first, rest = whitened_svd(matrix, gram, rank, spectrum)
        return (first, *_split_rest(rest, gram, first, chain[1:]))
    starts = (_completed(matrix, gram, s, chain) for s in _starts(matrix, gram, rank, read))
    found = min(starts, key=lambda each: float(row_errors(compose(each) - matrix, gram).sum()))
    for _ in range(_ROUNDS):
        first = improved_first(matrix, gram, found[0], compose(found[1:]))
        found = _completed(matrix, gram, first, chain)
    return found


def _completed(matrix: Tensor, gram: Tensor, first: Tensor, chain: Chain) -> tuple[Tensor, ...]:
    """The first factor and the best that can follow it."""
    through = spread(first, matrix.shape[1])
    return (first, *_split_rest(refit(matrix, gram, through), gram, through, chain[1:]))


def _split_rest(rest: Tensor, gram: Tensor, through: Tensor, chain: Chain) -> tuple[Tensor, ...]:
    """Factors of what reads `through`."""
    return (rest,) if len(chain) == 1 else factorize(rest, _behind(gram, through), chain)


def improved_first(matrix: Tensor, gram: Tensor, first: Tensor, rest: Tensor) -> Tensor:
    """The first factor (rank, n) nearer to the one that is best beside `rest` (R, rank * positions).

    Conjugate gradients on the least squares in `first`, whose normal matrix is too large to make;
    no step loses more than the one before.
    """
    rest = rest.double()
    by_position = rest.reshape(len(rest), len(first), -1)

    def _pulled_back(change: Tensor) -> Tensor:
        seen = times_gram(change, gram).reshape(len(change), first.shape[1], -1)
        return torch.einsum("orp,onp->rn", by_position, seen)

    found = first.double()
    residual = _pulled_back(matrix.double() - compose((found, rest)))
    direction, energy = residual, residual.square().sum()
    for _ in range(_STEPS):
        image = _pulled_back(compose((direction, rest)))
        curvature = (direction * image).sum()
        if not curvature > 0:
            break
        found = found + energy / curvature * direction
        residual = residual - energy / curvature * image
        before, energy = energy, residual.square().sum()
        direction = residual + energy / before * direction
    return found.to(first.dtype)


def _starts(matrix: Tensor, gram: Tensor, rank: int, read: Sequence[int]) -> Iterator[Tensor]:
    """First factors (rank, what one output reads), whitened and plain."""
    width = math.prod(read)
    unfolded = _unfolded(matrix, width)
    seen = gram_at_positions(gram, width)
    for each in (seen, torch.ones_like(seen[0])):
        yield whitened_svd(unfolded, each, rank)[0].to(matrix.dtype)


def _unfolded(matrix: Tensor, width: int) -> Tensor:
    """The matrix with a row for each position, (., width) and float64, or fewer rows of equal Gram."""
    positions = matrix.shape[1] // width
    unfolded = matrix.double().reshape(-1, width, positions).transpose(1, 2).reshape(-1, width)
    return torch.linalg.qr(unfolded, mode="r").R if len(unfolded) > width else unfolded


def gram_at_positions(gram: Tensor, width: int) -> Tensor:
    """The Gram (width, width) of what one output reads, mean over the positions it is read at."""
    positions = gram.shape[-1] // width
    if positions == 1:
        return gram
    blocks = gram.reshape(width, positions, width, positions)
    return blocks.diagonal(dim1=1, dim2=3).mean(dim=2)


def _behind(gram: Tensor, through: Tensor) -> Tensor:
    """The Gram (P, P) of inputs that are made of others by `through` (P, K)."""
    wide = through.double()
    return times_gram(wide, gram) @ wide.t()


def spread(factor: Tensor, width: int) -> Tensor:
    """The factor (r, n) at every position of `width` inputs, (r * positions, width).

    Inputs lie as (what one output reads, positions), and so do outputs.
    """
    positions = width // factor.shape[1]
    return torch.kron(
        factor.contiguous(), torch.eye(positions, dtype=factor.dtype, device=factor.device)
    )


def compose(factors: Sequence[Tensor]) -> Tensor:
    """The matrix (R, K) that the factors of a chain stand for, the first one first."""
    whole = factors[-1]
    for factor in reversed(factors[:-1]):
        positions = whole.shape[1] // len(factor)
        whole = whole @ spread(factor, positions * factor.shape[1])
    return whole


def refit(matrix: Tensor, gram: Tensor, through: Tensor) -> Tensor:
    """The matrix (R, P) nearest in output error to `matrix` (R, K) when it reads `through` (P, K).

    Least squares: W G T^T (T G T^T)^-1.
    """
    wide = through.double()
    seen = times_gram(wide, gram)
    factor = damped_cholesky((seen @ wide.t()).unsqueeze(0), _FIT_DAMPING)[0]
    fitted = torch.cholesky_solve(seen @ matrix.double().t(), factor).t()
    return fitted.to(matrix.dtype)


def statistics_behind(statistics: LayerStatistics, through: Tensor) -> LayerStatistics:
    """Statistics of inputs that are made of the layer's own by `through` (P, K).

    Output moments and gradients are the layer's own. Use the factors that are kept, codes included.
    """
    return replace(
        statistics,
        gram=_behind(statistics.gram, through),
        input_mean=through.double() @ statistics.input_mean,
    )
