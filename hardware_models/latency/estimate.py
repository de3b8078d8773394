"""A predicted latency with its interval, alone or for a population."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A latency with its 95 % interval.

    `source` says which model made it. `held_out_mape` is that model's mean relative error on
    networks it had not seen, None where nothing was measured.
    """

    value_s: float
    low_s: float
    high_s: float
    source: str
    held_out_mape: float | None


@dataclass(frozen=True, kw_only=True)
class Estimates:
    """Latencies of a population with their 95 % intervals, each array (candidates,)."""

    value_s: Array
    low_s: Array
    high_s: Array
    source: str
    held_out_mape: float | None

    def __len__(self) -> int:
        return len(self.value_s)

    def __getitem__(self, index: int) -> Estimate:
        return Estimate(
            value_s=float(self.value_s[index]),
            low_s=float(self.low_s[index]),
            high_s=float(self.high_s[index]),
            source=self.source,
            held_out_mape=self.held_out_mape,
        )
