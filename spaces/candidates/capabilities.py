"""What a device offers the space: the choices that buy something there.

A device file yields one `Capabilities`; the space is drawn from it, so a knob that moves no goal
on the target is never searched.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from paredown.spaces.candidates.blueprint import OnnxType
from paredown.spaces.candidates.candidate import Container, Ranges
from paredown.spaces.candidates.zeros import Pattern

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """Choices of one device: those that buy time, and those that only buy bytes.

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
    ranges: tuple[Ranges, ...]
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


def joint(offers: Sequence[Capabilities]) -> Capabilities:
    """What several devices offer one model that must run on all of them.

    A choice must run on every device and is fast if it is so on any; steps are the finest that save
    time on one of them, budgets the smallest. At least one device is given.
    """
    runs = _shared([offer.weight_bits for offer in offers])
    fast = tuple(b for b in runs if any(b in offer.fast_weight_bits for offer in offers))
    patterns = dict.fromkeys(p for offer in offers for p in offer.fast_patterns)
    return Capabilities(
        device=" and ".join(offer.device for offer in offers),
        fast_weight_bits=fast,
        storage_weight_bits=tuple(b for b in runs if b not in fast),
        activation_bits=_shared([offer.activation_bits for offer in offers]),
        containers=_shared([offer.containers for offer in offers]),
        ranges=_shared([offer.ranges for offer in offers]),
        onnx_types=_shared([offer.onnx_types for offer in offers]),
        width_step=math.gcd(*(offer.width_step for offer in offers)),
        channel_multiple=math.lcm(*(offer.channel_multiple for offer in offers)),
        rank_step=math.gcd(*(offer.rank_step for offer in offers)),
        fast_patterns=tuple(patterns),
        storage_only_knobs=_shared([offer.storage_only_knobs for offer in offers]),
        weight_budget_bytes=_smallest([offer.weight_budget_bytes for offer in offers]),
        activation_budget_bytes=_smallest([offer.activation_budget_bytes for offer in offers]),
    )


def _shared(choices: Sequence[tuple[T, ...]]) -> tuple[T, ...]:
    return tuple(each for each in choices[0] if all(each in others for others in choices))


def _smallest(budgets: Sequence[int | None]) -> int | None:
    return min((budget for budget in budgets if budget is not None), default=None)
