"""Scale-adjusted training: DoReFa's squashed weights, at the variance that they should have.

DoReFa-Net (Zhou et al. 2016, arXiv:1606.06160) quantises tanh of a latent weight; SAT (Jin, Yang and Liao
2020, arXiv:1912.10207) rescales the result, as a constant, so that signals keep their size. Its target is
the variance 1 / n of a fresh layer; here it is that of the assembled model's row, which is trained.
Levels are symmetric and have a zero, as codes are stored, which is SAT's "original" scheme without the
level that has no negative. The start is near the assembled codes, not at them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from paredown.compressors.rounding.quantize import nearest_codes, top_code
from paredown.compressors.storage.stored import StoredTensor, spread
from paredown.compressors.training.quantizers.quantizer import (
    Learned,
    ScaleRows,
    as_stored,
    latent_weights,
    masked,
    size_of_values,
)
from paredown.compressors.training.quantizers.supports import Support

_STEEPEST = 0.99
"""Share of the range where latent weights start at most: tanh is flat beyond."""


class Sat(nn.Module):
    """A tensor of codes of squashed latent weights, rescaled by row or group."""

    def __init__(self, tensor: StoredTensor, wanted: Tensor | None = None) -> None:
        super().__init__()
        assert tensor.scale is not None
        self._storage = tensor.storage
        self._rows = ScaleRows(tensor.storage)
        top = top_code(tensor.storage.bits)
        share = latent_weights(tensor, wanted) / (top * spread(tensor.scale, tensor.storage))
        self.latent = nn.Parameter(share.clamp_(-_STEEPEST, _STEEPEST).atanh_())
        dense = self._rows.split(tensor.dense())
        self.register_buffer("size", dense.square().sum(dim=1).sqrt_())
        self.register_buffer("first_scale", tensor.scale.clone())
        self.support = Support(tensor)
        self._unit = size_of_values(self.latent.detach())

    def forward(self) -> Tensor:
        """The dense weight."""
        steps = self._squashed()
        codes, scale = self._codes(steps.detach())
        weight: Tensor = _PassedBySteps.apply(steps, codes, spread(scale, self._storage))
        return weight

    def learned(self) -> Iterator[Learned]:
        """The latent weights."""
        yield Learned(self.latent, self._unit)

    def stored(self) -> StoredTensor:
        """The codes and scales of now."""
        codes, scale = self._codes(self._squashed().detach())
        return as_stored(self._storage, codes, scale, self.support.mask)

    def after_step(self) -> None:
        """Nothing: codes are found anew each time they are read."""

    def project(self) -> None:
        """Nothing: likewise."""

    def pull(self, strength: float) -> None:
        """Moves latent weights towards where the squashing gives whole codes."""
        codes, _ = self._codes(self._squashed().detach())
        middle = codes.div_(top_code(self._storage.bits)).clamp_(-_STEEPEST, _STEEPEST).atanh_()
        self.latent.detach().lerp_(middle, strength)

    def rank(self, progress: float) -> None:
        """Chooses anew which weights stay."""
        self.support.rank(self._squashed().detach().square(), progress)

    def _squashed(self) -> Tensor:
        """Latent weights between the smallest and the largest code."""
        return self.latent.tanh() * top_code(self._storage.bits)

    def _codes(self, steps: Tensor) -> tuple[Tensor, Tensor]:
        codes = masked(nearest_codes(steps, self._storage.bits), self.support.mask)
        length = self._rows.split(codes).square().sum(dim=1).sqrt_()
        size, first = self.get_buffer("size"), self.get_buffer("first_scale")
        is_used = (length > 0) & (size > 0)
        scale = torch.where(is_used, size / length.clamp_min(1.0), first.flatten())
        return codes, scale.view_as(first)


class _PassedBySteps(torch.autograd.Function):
    """Codes times scales, the gradient passing to what the codes were rounded from."""

    @staticmethod
    def forward(ctx: FunctionCtx, _: Tensor, codes: Tensor, step: Tensor) -> Tensor:
        """The quantised weight."""
        ctx.save_for_backward(step)
        return codes * step

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """By one step of a code the weight moves by its scale."""
        (step,) = ctx.saved_tensors
        return gradient * step, None, None
