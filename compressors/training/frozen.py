"""Codes that stay while their scales learn: the cheapest recovery."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from paredown.compressors.storage.stored import StoredTensor, spread
from paredown.compressors.training.quantizer import Learned


class Frozen(nn.Module):
    """A tensor of codes of which the scales alone learn."""

    def __init__(self, tensor: StoredTensor, wanted: Tensor | None = None) -> None:
        super().__init__()
        assert tensor.scale is not None
        self._tensor = tensor
        self.factor = nn.Parameter(torch.zeros_like(tensor.scale))

    @property
    def _scale(self) -> Tensor:
        assert self._tensor.scale is not None
        return self._tensor.scale * self.factor.exp()

    def forward(self) -> Tensor:
        """The dense weight."""
        values = self._tensor.values.to(torch.float32)
        return values * spread(self._scale, self._tensor.storage)

    def learned(self) -> Iterator[Learned]:
        """The logarithms of the scales."""
        yield Learned(self.factor, 1.0)

    def stored(self) -> StoredTensor:
        """The codes with the scales of now."""
        return replace(self._tensor, scale=self._scale.detach().clone())

    def after_step(self) -> None:
        """Nothing."""

    def pull(self, strength: float) -> None:
        """Nothing: there are no latent weights."""

    def rank(self, progress: float) -> None:
        """Nothing: zeros are codes that stay."""
