"""Latencies on further devices than the target, always by their presets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paredown.hardware_models.device import Device
from paredown.hardware_models.latency import RooflineLatency
from paredown.hardware_models.workload import read_work
from paredown.spaces.blueprint import Blueprint

LATENCY_ON = "latency_s@"
"""What the metric of a further device begins with; its name follows."""
HIGH_ON = "latency_high_s@"
"""The same of the upper end of its 95 % interval, which absolute bounds are held against."""


@dataclass(frozen=True)
class LatenciesElsewhere:
    """Prices blueprints in seconds on each of `devices`, on as many threads as each has.

    Nothing there is measured, so these seconds rank: bounds on them are best relative.
    """

    devices: Sequence[Device]
    threads: int = 1

    def __call__(self, blueprint: Blueprint) -> Mapping[str, float]:
        """Metric name to seconds, empty without devices."""
        if not self.devices:
            return {}
        work = read_work(blueprint)
        found: dict[str, float] = {}
        for device in self.devices:
            threads = min(self.threads, device.runtime.max_threads)
            latency = RooflineLatency(device, threads).predict(work)
            found[f"{LATENCY_ON}{device.name}"] = latency.value_s
            found[f"{HIGH_ON}{device.name}"] = latency.high_s
        return found
