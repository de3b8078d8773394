"""Codes that stay while their scales learn: the cheapest recovery."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from paredown.compressors.storage.stored import StoredTensor, spread
from paredown.compressors.training.quantizers.quantizer import Learned, as_stored


class Frozen(nn.Module):
    """A tensor of codes of which the scales alone learn."""

    def __init__(self, tensor: StoredTensor, wanted: Tensor | None = None) -> None:
        super().__init__()
        assert tensor.scale is not None
        self._storage = tensor.storage
        self.register_buffer("codes", tensor.values.clone())
        self.register_buffer("mask", None if tensor.mask is None else tensor.mask.clone())
        self.register_buffer("first_scale", tensor.scale.clone())
        self.factor = nn.Parameter(torch.zeros_like(tensor.scale))

    @property
    def _scale(self) -> Tensor:
        return self.get_buffer("first_scale") * self.factor.exp()

    def forward(self) -> Tensor:
        """The dense weight."""
        values = self.get_buffer("codes").to(torch.float32)
        return values * spread(self._scale, self._storage)

    def learned(self) -> Iterator[Learned]:
        """The logarithms of the scales."""
        yield Learned(self.factor, 1.0)

    def stored(self) -> StoredTensor:
        """The codes with the scales of now."""
        mask: Tensor | None = self.mask  # type: ignore[assignment]
        return as_stored(self._storage, self.get_buffer("codes"), self._scale, mask)

    def after_step(self) -> None:
        """Nothing."""

    def project(self) -> None:
        """Nothing: codes stay."""

    def pull(self, strength: float) -> None:
        """Nothing: there are no latent weights."""

    def rank(self, progress: float) -> None:
        """Nothing: zeros are codes that stay."""
