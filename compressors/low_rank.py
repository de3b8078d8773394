"""A layer as two thinner ones: the low-rank pair that changes the layer's outputs least."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from paredown.compressors.matrix import SolverError, times_gram
from paredown.compressors.recent import Recent
from paredown.compressors.statistics import LayerStatistics

_spectra: Recent[tuple[Tensor, ...]] = Recent(1)
_FACTORED = ("linear", "conv1d", "conv2d")


def whitened_svd(weight: Tensor, gram: Tensor, rank: int) -> tuple[Tensor, Tensor]:
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
    energy, vectors = _spectra.get(
        lambda: tuple(torch.linalg.eigh(times_gram(wide, gram) @ wide.t())), weight, gram
    )
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


def factor_shapes(
    kind: str, weight_shape: tuple[int, ...], rank: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Weight shapes of the two operators: the first keeps the kernel, the second is pointwise.

    >>> factor_shapes("conv2d", (64, 32, 3, 3), 16)
    ((16, 32, 3, 3), (64, 16, 1, 1))
    """
    if kind not in _FACTORED:
        raise SolverError(
            f"a layer of kind {kind!r} has no low-rank form; leave rank_fraction at 1"
        )
    ones = (1,) * (len(weight_shape) - 2)
    return (rank, *weight_shape[1:]), (weight_shape[0], rank, *ones)


def second_statistics(statistics: LayerStatistics, first: Tensor) -> LayerStatistics:
    """Statistics of the second factor: its inputs are what `first` (rank, K) makes of the layer's.

    Output moments and gradients are the layer's own. Use the `first` that is kept, codes included.
    """
    wide = first.double()
    gram = times_gram(wide, statistics.gram) @ wide.t()
    return replace(statistics, gram=gram, input_mean=wide @ statistics.input_mean)
