"""A compressed tensor as it is kept: integer codes and scales, or floats, and which values are kept."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from paredown.compressors.rounding.quantize import by_column
from paredown.spaces.candidates.blueprint import Storage

CPU = torch.device("cpu")
"""Where tensors lie that are kept, written, or handed to a runtime."""


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """Values in the format that `storage` describes.

    `values` has the dense shape: int8 codes for fewer than 32 bits, `storage.dtype` otherwise; what is
    not kept is zero. `scale` is float32 of `storage.scale_shape` for codes, None without. `mask` is the
    boolean dense shape of kept values where the storage has an index, None otherwise.
    """

    storage: Storage
    values: Tensor
    scale: Tensor | None = None
    mask: Tensor | None = None

    @classmethod
    def of_floats(cls, values: Tensor) -> StoredTensor:
        """An uncompressed float32 tensor."""
        values = values.detach().to(torch.float32).contiguous()
        return cls.unchanged(values)

    @classmethod
    def unchanged(cls, values: Tensor) -> StoredTensor:
        """A tensor kept as it is, of any type: masks and indices as much as floats."""
        values = values.detach().contiguous()
        storage = Storage(
            shape=tuple(values.shape),
            kept=values.numel(),
            dtype=str(values.dtype).removeprefix("torch."),
        )
        return cls(storage=storage, values=values)

    def to(self, device: torch.device) -> StoredTensor:
        """The same on `device`."""
        return replace(
            self,
            values=self.values.to(device),
            scale=None if self.scale is None else self.scale.to(device),
            mask=None if self.mask is None else self.mask.to(device),
        )

    def dense(self) -> Tensor:
        """The float32 tensor that the codes stand for, or the values as they are."""
        if self.scale is None:
            return self.values
        return self.values.to(torch.float32) * spread(self.scale, self.storage)


def spread(scale: Tensor, storage: Storage) -> Tensor:
    """Scales (rows,) or (rows, groups of columns) as factors of a tensor of `storage.shape`."""
    if scale.ndim == 2:
        return by_column(scale, storage.shape[1])
    shape = [1] * len(storage.shape)
    shape[storage.axis] = -1
    return scale.view(shape)
