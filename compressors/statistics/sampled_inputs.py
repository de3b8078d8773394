"""Inputs of a very wide layer at some positions, where their Gram would take gigabytes."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

WIDEST = 12_288
"""Inputs up to which a layer keeps its whole Gram, which then takes 1.2 GB."""
_MOST_ROWS = 512
"""Positions kept at most. The error of an output's energy is then about root(2 / 512) = 6 %, and nothing
where a linear layer has met no more: one position is one image."""


@dataclass
class SampledInputs:
    """Every first, second, fourth, ... position, so that no more than 512 are kept; float32."""

    kept: list[Tensor] = field(default_factory=list)
    stride: int = 1
    seen: int = 0

    def add(self, columns: Tensor) -> None:
        """Adds inputs (K, positions) in the order that they are met in."""
        first = -self.seen % self.stride
        self.kept += [row.float().clone() for row in columns[:, first :: self.stride].t()]
        self.seen += columns.shape[1]
        while len(self.kept) > _MOST_ROWS:
            self.kept = self.kept[::2]
            self.stride *= 2

    def root(self) -> Tensor:
        """Root (n, K) of the kept positions' Gram, a mean over them; float64."""
        return torch.stack(self.kept).double() / len(self.kept) ** 0.5
