"""A Gram matrix with the factorizations that solvers need of it, each made once.

All matrices that are solved under one Gram share the object, and the factorizations end with it.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from paredown.compressors.matrix.algebra import (
    damped_cholesky,
    inverted_triangle,
    is_root,
    split_groups,
)
from paredown.spaces.candidates.scale_groups import group_count

_WIDE = 1024
"""Columns from which roots are found in float32, in half the time: beside a damping of 1 % nothing is
lost, and of the codes found with them one in ten thousand differs at most
(`tests/compressors/matrix/test_gram.py`)."""

Ordered = tuple[Tensor, Tensor]
"""Columns in the order of a sweep, and the inverse root of the Gram so sorted."""


class Gram:
    """A Gram matrix: (K, K); (groups, K, K); (K,), a diagonal; or (n, K), a root of it."""

    def __init__(self, values: Tensor) -> None:
        self.values = values
        self._by_group_size: dict[int, Ordered] = {}

    @property
    def compensates(self) -> bool:
        """Whether weights can make up for others: under a diagonal or a root they are left to themselves.

        Inputs of a diagonal are never active together. A root knows fewer positions than there are
        inputs: what made up for others there would follow the sample.
        """
        return self.values.ndim > 1 and not is_root(self.values)

    @functools.cached_property
    def square(self) -> Tensor:
        """The matrices (groups, K, K), one group for a plain Gram."""
        return split_groups(self.values.new_empty(0, self.values.shape[-1]), self.values)[1]

    @functools.cached_property
    def inverse_root(self) -> Tensor:
        """Upper Cholesky factors U (groups, K, K) with U^T U = (Gram + damping)^-1.

        Row i of U, from i on, holds what OBS needs to remove column i after the columns before it.
        """
        return _inverse_root(self.square)

    @functools.cached_property
    def by_activity(self) -> Ordered:
        """Columns (groups, K), the most active first, and the inverse root (groups, K, K)."""
        gram = self.square
        order = gram.diagonal(dim1=1, dim2=2).argsort(dim=1, descending=True, stable=True)
        rows = gram.gather(1, order.unsqueeze(2).expand_as(gram))
        return order, _inverse_root(rows.gather(2, order.unsqueeze(1).expand_as(gram)))

    def groups_by_activity(self, size: int) -> Ordered:
        """Columns (K,), whole groups of `size` and the columns in them the most active first.

        A short last group stays the last. The inverse root is (1, K, K); for a plain Gram alone.
        """
        if size not in self._by_group_size:
            self._by_group_size[size] = _groups_by_activity(self.values.double(), size)
        return self._by_group_size[size]


def in_groups(values: Tensor, size: int) -> Tensor:
    """(R, K) as (R, groups, size), the last group filled with zeros."""
    rows, columns = values.shape
    missing = group_count(columns, size) * size - columns
    return torch.nn.functional.pad(values, (0, missing)).reshape(rows, -1, size)


def _groups_by_activity(gram: Tensor, size: int) -> Ordered:
    columns = len(gram)
    activity = in_groups(gram.diagonal().unsqueeze(0), size)[0]
    whole = columns // size
    order = activity[:whole].sum(dim=1).argsort(descending=True, stable=True)
    inside = activity[:whole].argsort(dim=1, descending=True, stable=True)
    firsts = (order * size).unsqueeze(1) + inside[order]
    last = activity[whole:, : columns - whole * size].argsort(dim=1, descending=True, stable=True)
    columns_in_order = torch.cat([firsts.flatten(), whole * size + last.flatten()])
    sorted_gram = gram[columns_in_order][:, columns_in_order]
    return columns_in_order, _inverse_root(sorted_gram.unsqueeze(0))


def _inverse_root(gram: Tensor) -> Tensor:
    # With columns and rows reversed, the lower factor of the Gram itself is U^-1, read backwards: one
    # factorization and a triangular inverse, where inverting and factorizing again takes twice the time.
    level = gram.diagonal(dim1=1, dim2=2).mean(dim=1).view(-1, 1, 1)
    level = torch.where(level > 0, level, 1.0)
    dtype = torch.float32 if gram.shape[1] >= _WIDE else gram.dtype
    factor = damped_cholesky((gram / level).flip(1, 2).to(dtype))
    return inverted_triangle(factor).flip(1, 2).double() / level.sqrt()
