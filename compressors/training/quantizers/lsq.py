"""Learned step size quantisation: latent weights and the scale of every row or group learn together.

Esser et al., "Learned Step Size Quantization", ICLR 2020, arXiv:1902.08153. The scale is learned as a
factor, so that its learning rate means the same for every row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from paredown.compressors.rounding.quantize import nearest_codes, top_code
from paredown.compressors.storage.stored import StoredTensor, spread
from paredown.compressors.training.quantizers.quantizer import (
    Learned,
    as_stored,
    latent_weights,
    masked,
    size_of_values,
)
from paredown.compressors.training.quantizers.supports import Support
from paredown.spaces.candidates.blueprint import Storage


class Lsq(nn.Module):
    """A tensor of codes whose latent weights and scales learn."""

    def __init__(self, tensor: StoredTensor, wanted: Tensor | None = None) -> None:
        super().__init__()
        assert tensor.scale is not None
        self._storage = tensor.storage
        self.latent = nn.Parameter(latent_weights(tensor, wanted))
        self.factor = nn.Parameter(torch.zeros_like(tensor.scale))
        self.register_buffer("first_scale", tensor.scale.clone())
        self.support = Support(tensor)
        self._unit = size_of_values(self.latent.detach())

    @property
    def scale(self) -> Tensor:
        """The scales of now, as stored."""
        return self.get_buffer("first_scale") * self.factor.exp()

    def forward(self) -> Tensor:
        """The dense weight."""
        step = spread(self.scale, self._storage)
        weight: Tensor = _Rounded.apply(self.latent, step, self._storage, self.support.mask)
        return weight

    def learned(self) -> Iterator[Learned]:
        """Latent weights by their size, and the logarithms of the scales."""
        yield Learned(self.latent, self._unit)
        yield Learned(self.factor, 1.0)

    def stored(self) -> StoredTensor:
        """The codes and scales of now."""
        scale = self.scale.detach()
        return as_stored(self._storage, self._codes(), scale, self.support.mask)

    def after_step(self) -> None:
        """Nothing: codes are found anew each time they are read."""

    def project(self) -> None:
        """Nothing: likewise."""

    def pull(self, strength: float) -> None:
        """Moves latent weights towards the middle of their codes; those beyond the last one stay."""
        latent, step = self.latent.detach(), spread(self.scale.detach(), self._storage)
        limit = top_code(self._storage.bits) * step
        latent.lerp_(torch.where(latent.abs() <= limit, self._codes() * step, latent), strength)

    def rank(self, progress: float) -> None:
        """Chooses anew which weights stay."""
        scale = spread(self.scale.detach(), self._storage)
        codes = nearest_codes(self.latent.detach() / scale, self._storage.bits)
        # A weight without a zero among its codes is worth its nearest code other than zero.
        value = codes.abs().clamp_min_(1.0).mul_(scale)
        self.support.rank(value * (2 * self.latent.detach().abs() - value), progress)

    def _codes(self) -> Tensor:
        steps = self.latent.detach() / spread(self.scale.detach(), self._storage)
        return masked(nearest_codes(steps, self._storage.bits), self.support.mask)


class _Rounded(torch.autograd.Function):
    """Latent weights rounded to codes, with LSQ's gradients."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, latent: Tensor, step: Tensor, storage: Storage, mask: Tensor | None
    ) -> Tensor:
        """Codes times scales."""
        steps = latent / step
        codes = masked(nearest_codes(steps, storage.bits), mask)
        ctx.save_for_backward(steps, codes, step, mask)  # type: ignore[arg-type]
        ctx.storage = storage  # type: ignore[attr-defined]
        return codes * step

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """The gradient by latent weights passes within the codes; see the paper for the scale's."""
        steps, codes, step, mask = ctx.saved_tensors
        top = top_code(ctx.storage.bits)
        is_inside = steps.abs() <= top
        by_scale = masked(torch.where(is_inside, codes - steps, codes), mask) * gradient
        count = ctx.storage.count / ctx.storage.scale_count
        by_step = by_scale.sum_to_size(step.shape).div_(math.sqrt(count * top))
        return gradient * is_inside, by_step, None, None
