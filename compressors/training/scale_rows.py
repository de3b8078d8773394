"""The weights that share a scale, as rows of a matrix."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from paredown.spaces.candidates.blueprint import Storage


@dataclass(frozen=True)
class ScaleRows:
    """Takes tensors of a storage's shape apart, so that each row has one scale, and joins them again."""

    storage: Storage

    def split(self, x: Tensor) -> Tensor:
        """(scales, weights of each); what a last group lacks is zero."""
        rows = x.movedim(self.storage.axis, 0).flatten(1)
        size = self.storage.group_size
        if not size:
            return rows
        return F.pad(rows, (0, -rows.shape[1] % size)).reshape(-1, size)

    def join(self, rows: Tensor) -> Tensor:
        """The tensor that `split` took apart."""
        axis = self.storage.axis
        shape = list(self.storage.shape)
        count = shape.pop(axis)
        columns = self.storage.count // max(1, count)
        return rows.reshape(count, -1)[:, :columns].reshape(count, *shape).movedim(0, axis)
