"""A layer's weight as a matrix (output channels x fan-in), and errors measured by a Gram matrix.

Every solver works on this view. A Gram matrix `gram` = E[x x^T] over calibration positions comes
in four forms: (K, K); (groups, K, K) for grouped convolutions, whose rows come group after group;
(K,), the diagonal, where inputs are one-hot (embeddings); and (n, K) with n < K for very wide layers, a
root: the inputs x / sqrt(n) at n positions, of which the Gram is the product with itself.
"""

from __future__ import annotations

import torch
from torch import Tensor

from paredown.spaces.structure.model_map import Layer
from paredown.spaces.system.errors import ParedownError

DAMPING = 0.01
"""Share of the mean diagonal added to a Gram matrix before it is inverted (GPTQ's default)."""

_STRIP = 384
"""Rows of a gradient Gram, or of a triangle, that are worked on at once."""
_ROUNDING = 1e-6
"""Share of E[x^2] below which a variance is rounding error: chunks of a Gram are float32."""


class SolverError(ParedownError):
    """A solver was asked for something outside its domain."""


def to_matrix(weight: Tensor, layer: Layer) -> Tensor:
    """The weight as (out, fan_in): one row per output channel, group after group.

    Columns keep the weight's own order (input channel, then kernel positions). A transposed
    convolution, stored (in, out / groups, ...), is turned so that rows are output channels too. An
    embedding stays (tokens, width): its rows are tokens.
    """
    if layer.kind.startswith("conv_transpose"):
        split = weight.reshape(layer.groups, -1, weight.shape[1], weight[0, 0].numel())
        return split.transpose(1, 2).reshape(layer.groups * weight.shape[1], -1)
    return weight.reshape(weight.shape[0], -1)


def from_matrix(matrix: Tensor, layer: Layer) -> Tensor:
    """The weight, in `layer.weight_shape`, that `to_matrix` made `matrix` from."""
    shape = layer.weight_shape
    if layer.kind.startswith("conv_transpose"):
        inputs = shape[0] // layer.groups
        split = matrix.reshape(layer.groups, shape[1], inputs, -1)
        return split.transpose(1, 2).reshape(shape)
    return matrix.reshape(shape)


def split_groups(matrix: Tensor, gram: Tensor) -> tuple[Tensor, Tensor]:
    """`matrix` as (groups, rows, K) and `gram` as (groups, K, K); one group for a plain Gram."""
    if gram.ndim == 1:
        gram = torch.diag(gram)
    if gram.ndim == 2:
        gram = gram.unsqueeze(0)
    return matrix.reshape(gram.shape[0], -1, matrix.shape[-1]), gram


def is_root(gram: Tensor) -> bool:
    """Whether a Gram is given by a root (n, K) of it."""
    return gram.ndim == 2 and len(gram) < gram.shape[1]


def gram_of_columns(gram: Tensor, columns: Tensor) -> Tensor:
    """The Gram (n, n) of some inputs, of all inputs' (K, K); of a root again one where it is wider."""
    if not is_root(gram):
        return gram[columns][:, columns]
    root = gram[:, columns]
    return root if is_root(root) else (root.t() @ root).double()


def _energy(root: Tensor) -> Tensor:
    return root.double().square().sum(dim=0)


def times_gram(matrix: Tensor, gram: Tensor) -> Tensor:
    """`matrix` (R, K) times the Gram of each row's group, (R, K)."""
    if gram.ndim == 1:
        return matrix * gram
    if is_root(gram):
        root = gram.to(matrix.dtype)
        return (matrix @ root.t()) @ root
    grouped, gram = split_groups(matrix, gram)
    return (grouped @ gram).reshape(matrix.shape)


def centred_gram(gram: Tensor, mean: Tensor) -> Tensor:
    """The inputs' covariance E[x x^T] - E[x] E[x]^T, in the form of `gram`; a diagonal as it is.

    An input that never changes is dead: its row and column are exactly zero. One-hot inputs, the
    diagonal form, keep their frequencies: embeddings have no bias that could take the mean.
    """
    if gram.ndim == 1:
        return gram
    if is_root(gram):
        # About the mean of these very positions: about another one it would not be their covariance.
        centred = gram - gram.mean(dim=0)
        return centred * (_energy(centred) > _ROUNDING * _energy(gram))
    grouped, means = (gram, mean) if gram.ndim == 3 else (gram.unsqueeze(0), mean.unsqueeze(0))
    # Few passes over what may be gigabytes.
    centred = torch.baddbmm(grouped, means.unsqueeze(2), means.unsqueeze(1), alpha=-1)
    seen = centred.diagonal(dim1=1, dim2=2)
    is_live = seen > _ROUNDING * grouped.diagonal(dim1=1, dim2=2)
    if not is_live.all():
        centred *= is_live.unsqueeze(2) & is_live.unsqueeze(1)
    return centred.reshape(gram.shape)


def gram_diagonal(gram: Tensor, rows: int) -> Tensor:
    """Mean squared inputs that each weight sees, (rows, K)."""
    if gram.ndim == 1:
        return gram.expand(rows, -1)
    if is_root(gram):
        return _energy(gram).expand(rows, -1)
    diagonal = gram.diagonal(dim1=-2, dim2=-1)
    if gram.ndim == 2:
        return diagonal.expand(rows, -1)
    return diagonal.repeat_interleave(rows // gram.shape[0], dim=0)


def row_errors(delta: Tensor, gram: Tensor) -> Tensor:
    """Mean squared change (R,) of each output channel when its weights change by `delta`."""
    delta = delta.double()
    return (times_gram(delta, gram) * delta).sum(dim=1).clamp_min(0.0)


def damage(delta: Tensor, gram: Tensor, gradient_gram: Tensor) -> float:
    """Predicted increase of the mean loss, in its unit, when the weight changes by `delta` (R, K).

    1/2 tr(dW A dW^T G), the K-FAC quadratic of Martens and Grosse 2015, arXiv:1503.05671, and of
    Grosse and Martens 2016, arXiv:1602.01407, for convolutions. `gradient_gram` G, (R, R) or its
    diagonal (R,), is scaled as in `LayerStatistics`.
    """
    delta = delta.double()
    moved = times_gram(delta, gram)
    if gradient_gram.ndim == 1:
        return float(0.5 * (gradient_gram @ (moved * delta).sum(dim=1)))
    if gram.ndim < 3:
        total = 0.0
        for start in range(0, len(delta), _STRIP):
            strip, later = slice(start, start + _STRIP), slice(start + _STRIP, None)
            # dW A dW^T and G are symmetric: what lies off the diagonal counts twice.
            here = (
                gradient_gram[strip, strip] @ moved[strip] / 2
                + gradient_gram[strip, later] @ moved[later]
            )
            total += float((here * delta[strip]).sum())
        return total
    # Different groups read different inputs; K-FAC takes those as independent.
    grouped, gram = split_groups(delta, gram)
    rows = grouped.shape[1]
    blocks = gradient_gram.reshape(len(gram), rows, len(gram), rows)
    own = blocks.diagonal(dim1=0, dim2=2).permute(2, 0, 1)
    return float(0.5 * ((own @ moved.reshape(grouped.shape)) * grouped).sum())


def power_of_two(values: Tensor) -> Tensor:
    """The power of two next to the largest of `values` (..., n), (..., 1): float32 has its square.

    Dividing by it changes no digit.
    """
    largest = values.abs().amax(dim=-1, keepdim=True)
    return torch.where(largest > 0, 2.0 ** torch.frexp(largest).exponent.double(), 1.0)


def damped_cholesky(gram: Tensor, damping: float = DAMPING) -> Tensor:
    """Lower Cholesky factors of `gram` (groups, K, K) + damping, dead inputs replaced by ones.

    The damping is the share `damping` of the mean diagonal of each group and grows tenfold until all
    factors exist; a dead input (diagonal 0) gets the diagonal 1, so that it neither blows up nor
    takes part.
    """
    diagonal = gram.diagonal(dim1=-2, dim2=-1)
    dead = diagonal <= 0
    level = diagonal.mean(dim=-1, keepdim=True)
    level = torch.where(level > 0, level, 1.0)
    while True:
        added = torch.where(dead, 1.0, 0.0) + damping * level
        damped = gram.clone()
        damped.diagonal(dim1=-2, dim2=-1).add_(added)
        factor, info = torch.linalg.cholesky_ex(damped)
        if not info.any():
            return factor
        if damping > 1e6:
            raise SolverError("the Gram matrix must be finite; check the calibration data for NaN")
        damping *= 10


def inverted_triangle(lower: Tensor) -> Tensor:
    """The inverses of lower triangular matrices (groups, K, K).

    Half by half, so that most of the work is solving for many columns at once, and for no zeros.
    """
    size = lower.shape[-1]
    if size <= _STRIP:
        eye = torch.eye(size, dtype=lower.dtype, device=lower.device)
        return torch.linalg.solve_triangular(lower, eye.expand_as(lower), upper=False)
    middle = size // 2
    first, last = slice(0, middle), slice(middle, size)
    across = torch.linalg.solve_triangular(
        lower[:, first, first], lower[:, last, first], upper=False, left=False
    )
    found = torch.zeros_like(lower)
    found[:, first, first] = inverted_triangle(lower[:, first, first])
    found[:, last, last] = inverted_triangle(lower[:, last, last])
    found[:, last, first] = torch.linalg.solve_triangular(
        lower[:, last, last], across.neg_(), upper=False
    )
    return found
