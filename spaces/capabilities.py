"""What a device offers the space: the choices that buy something there.

A device file yields one `Capabilities`; the space is drawn from it, so a knob that moves no goal
on the target is never searched.
"""

from __future__ import annotations

from dataclasses import dataclass

from paredown.spaces.blueprint import OnnxType
from paredown.spaces.candidate import Container, Pattern


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """Choices of one device, with those that buy time apart from those that only buy bytes.

    `fast_weight_bits` have kernels of their own beside 8-bit activations (8) or float ones (32);
    `storage_weight_bits` only make files smaller. `width_step` is the multiple of channels below
    which a narrower layer runs no faster; `channel_multiple` the one below which it runs slower.
    `rank_step` is the same for low rank. `fast_patterns` are the sparsity patterns that save time.
    `storage_only_knobs` never move the latency. Budgets are bytes, None where there is no limit.
    """

    device: str
    fast_weight_bits: tuple[int, ...]
    storage_weight_bits: tuple[int, ...]
    activation_bits: tuple[int, ...]
    containers: tuple[Container, ...]
    onnx_types: tuple[OnnxType, ...]
    width_step: int
    channel_multiple: int
    rank_step: int
    fast_patterns: tuple[Pattern, ...]
    storage_only_knobs: tuple[str, ...]
    weight_budget_bytes: int | None
    activation_budget_bytes: int | None

    @property
    def weight_bits(self) -> tuple[int, ...]:
        """Every width that may be stored, ascending."""
        return tuple(sorted({*self.fast_weight_bits, *self.storage_weight_bits}))
