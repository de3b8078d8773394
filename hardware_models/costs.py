"""The price of a candidate: everything that is known before it exists."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from paredown.hardware_models.device import Device
from paredown.hardware_models.energy import energy_ratio
from paredown.hardware_models.latency import Estimate, LatencyModel
from paredown.hardware_models.memory import PeakMemory, peak_activation_bytes
from paredown.hardware_models.workload import Work, read_work
from paredown.spaces.blueprint import Blueprint

Sizes = Callable[[Blueprint], Mapping[str, float]]
"""File sizes of a blueprint by name ("onnx_bytes", "packed_bytes"), from whoever writes the
files."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Costs of one model. `sizes` are bytes of the files it will be written to, by name.

    `energy_ratio` is relative to the uncompressed model.
    """

    latency: Estimate
    macs: int
    bops: int
    peak_memory: PeakMemory
    energy_ratio: float
    sizes: Mapping[str, float] = field(default_factory=dict)

    def as_metrics(self) -> dict[str, float]:
        """Every cost as one flat number, for trackers and bounds."""
        return {
            "latency_s": self.latency.value_s,
            "latency_low_s": self.latency.low_s,
            "latency_high_s": self.latency.high_s,
            "macs": float(self.macs),
            "bops": float(self.bops),
            "peak_memory_bytes": float(self.peak_memory.planned_bytes),
            "peak_memory_lower_bound_bytes": float(self.peak_memory.lower_bound_bytes),
            "energy_ratio": self.energy_ratio,
            **self.sizes,
        }


@dataclass(frozen=True, kw_only=True)
class CostModels:
    """Prices blueprints on one device; pure, so a candidate has one price for a whole search.

    `reference` is the Work of the uncompressed model.
    """

    device: Device
    latency_model: LatencyModel
    reference: Work
    sizes: Sizes

    def price(self, blueprint: Blueprint) -> Cost:
        """All costs of a blueprint, in milliseconds of computing."""
        work = read_work(blueprint)
        return Cost(
            latency=self.latency_model.predict(work),
            macs=work.macs,
            bops=work.bops,
            peak_memory=peak_activation_bytes(blueprint, self.device),
            energy_ratio=energy_ratio(work, self.reference, self.device.energy),
            sizes=dict(self.sizes(blueprint)),
        )
