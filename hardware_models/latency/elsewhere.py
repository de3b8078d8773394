"""Latencies on further devices than the target, always by their presets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from paredown.hardware_models.devices.device import Device
from paredown.hardware_models.latency.models import RooflineLatency
from paredown.hardware_models.work.workload import read_work
from paredown.spaces.candidates.blueprint import Blueprint

LATENCY_ON = "latency_s@"
"""What the metric of a further device begins with; its name follows."""
HIGH_ON = "latency_high_s@"
"""The same of the upper end of its 95 % interval, which absolute bounds are held against."""


def latencies_elsewhere(
    devices: Sequence[Device], threads: int = 1
) -> dict[str, Callable[[Blueprint], float]]:
    """Metrics of each of `devices`, on as many threads as each has, to what prices them in seconds.

    Nothing there is measured, so these seconds rank: bounds on them are best relative.
    """
    found: dict[str, Callable[[Blueprint], float]] = {}
    for device in devices:
        model = RooflineLatency(device, min(threads, device.runtime.max_threads))
        found[f"{LATENCY_ON}{device.name}"] = partial(_value_s, model)
        found[f"{HIGH_ON}{device.name}"] = partial(_high_s, model)
    return found


def _value_s(model: RooflineLatency, blueprint: Blueprint) -> float:
    return model.predict(read_work(blueprint)).value_s


def _high_s(model: RooflineLatency, blueprint: Blueprint) -> float:
    return model.predict(read_work(blueprint)).high_s
