"""Loss-aware quantisation: a proximal Newton step on every tensor (LAB, LAT and LAQ).

Hou, Yao and Kwok 2017 (arXiv:1611.01600) at one bit, Hou and Kwok 2018 (arXiv:1802.08635) at more. The
gradient by the quantised weight moves the latent one; the codes and scales are then the projection of the
latent weights in the metric of the loss, whose curvature is the square root of the running second moment
of that gradient. The projection is the exact solver of `rounding/codebook.py` up to two bits; beyond, the
alternating one from the scale before, which the papers found as good, and which costs a hundredth.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from paredown.compressors.rounding.codebook import alternate, fit_scaled_codebook, linear_levels
from paredown.compressors.rounding.quantize import top_code
from paredown.compressors.storage.stored import StoredTensor, spread
from paredown.compressors.training.quantizers.quantizer import (
    Learned,
    ScaleRows,
    as_stored,
    masked,
    size_of_values,
)
from paredown.compressors.training.quantizers.supports import Support

_DECAY = 0.999
_FLOOR = 1e-8
"""Curvature of weights that no gradient reaches; the papers' own."""
_EXACT_BITS = 2
_HALF_STEPS = 2
_BEYOND = 0.5
"""Steps beyond the largest code where latent weights are clipped."""


class Laq(nn.Module):
    """A tensor of codes whose latent weights learn, projected at every step."""

    def __init__(self, tensor: StoredTensor, wanted: Tensor | None = None) -> None:
        super().__init__()
        assert tensor.scale is not None
        self._storage = tensor.storage
        self._rows = ScaleRows(tensor.storage)
        # At the codes, which are their own projection in every metric: from the uncompressed weights
        # the first one would undo the scales that layers were refitted with.
        self.latent = nn.Parameter(tensor.dense().clone())
        self.register_buffer("codes", tensor.values.to(torch.float32))
        self.register_buffer("scale", tensor.scale.clone())
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.register_buffer("moment", torch.zeros_like(self.latent))
        self.support = Support(tensor)
        self._unit = size_of_values(self.latent.detach())

    def forward(self) -> Tensor:
        """The dense weight."""
        weight = self.get_buffer("codes") * spread(self.get_buffer("scale"), self._storage)
        passed: Tensor = _Passed.apply(self.latent, weight)
        if passed.requires_grad:
            passed.register_hook(self._meet)
        return passed

    def learned(self) -> Iterator[Learned]:
        """The latent weights."""
        yield Learned(self.latent, self._unit)

    def stored(self) -> StoredTensor:
        """The codes and scales of now."""
        codes, scale = self.get_buffer("codes"), self.get_buffer("scale")
        return as_stored(self._storage, codes, scale, self.support.mask)

    def after_step(self) -> None:
        """Clips the latent weights and projects them onto codes and scales."""
        # Latent weights far out never return. The papers clip at 1, a dozen times the size that theirs
        # begin with; in scales of now, weights may grow as far, whatever they begin with. At the largest
        # code itself all scales would shrink, as half of its weights lie beyond.
        furthest = top_code(self._storage.bits) + _BEYOND
        limit = furthest * spread(self.get_buffer("scale"), self._storage)
        latent = self.latent.detach()
        latent.copy_(latent.clamp(-limit, limit))
        self.project()

    def project(self) -> None:
        """The codes and scales nearest to the latent weights where the loss is curved."""
        bits, top = self._storage.bits, top_code(self._storage.bits)
        rows = self._rows.split(self.latent.detach())
        weigh = self._rows.split(masked(self._curvature(), self.support.mask))
        before = self.get_buffer("scale").flatten()
        if bits <= _EXACT_BITS:
            found = fit_scaled_codebook(rows, weigh, linear_levels(bits))
        else:
            start = before.double() * top
            found = alternate(rows, weigh, linear_levels(bits), start, steps=_HALF_STEPS)
        # A row without codes keeps its scale: what is stored is above zero.
        scale = torch.where(found.scale > 0, (found.scale / top).to(before.dtype), before)
        codes = self._rows.join((found.codes * top).round().to(rows.dtype))
        self.get_buffer("codes").copy_(masked(codes, self.support.mask))
        self.get_buffer("scale").copy_(scale.view_as(self.get_buffer("scale")))

    def rank(self, progress: float) -> None:
        """Chooses anew which weights stay, by what they are worth to the loss."""
        if self.support.mask is not None:
            self.support.rank(self._curvature() * self.latent.detach().square(), progress)
            self.project()

    def pull(self, strength: float) -> None:
        """Moves latent weights towards their codes."""
        weight = self.get_buffer("codes") * spread(self.get_buffer("scale"), self._storage)
        self.latent.detach().lerp_(weight, strength)

    def _curvature(self) -> Tensor:
        seen = 1 - _DECAY ** float(self.get_buffer("steps"))
        return (self.get_buffer("moment") / max(seen, _FLOOR)).sqrt_().add_(_FLOOR)

    def _meet(self, gradient: Tensor) -> None:
        self.get_buffer("steps").add_(1)
        self.get_buffer("moment").mul_(_DECAY).addcmul_(gradient, gradient, value=1 - _DECAY)


class _Passed(torch.autograd.Function):
    """The quantised weight, whose gradient is handed to the latent one unchanged."""

    @staticmethod
    def forward(_: FunctionCtx, latent: Tensor, weight: Tensor) -> Tensor:
        """The quantised weight."""
        return weight.clone()

    @staticmethod
    def backward(_: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        """The gradient as it is."""
        return gradient, None
