"""The price of a candidate: everything that is known before it exists."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from paredown.hardware_models.devices.device import Device
from paredown.hardware_models.energy.table_energy import energy_ratio
from paredown.hardware_models.latency.models import LatencyModel
from paredown.hardware_models.memory.peak import ONNX_RUNTIME, peak_activation_bytes
from paredown.hardware_models.memory.weight_memory import weight_memory_bytes
from paredown.hardware_models.work.workload import Work, read_work
from paredown.spaces.candidates.blueprint import Blueprint

WEIGHT_MEMORY = "weight_memory_bytes"

FurtherCost = Callable[[Blueprint], float]


@dataclass(frozen=True, kw_only=True)
class CostModels:
    """Prices blueprints on one device; pure, so a candidate has one price for a whole search.

    `reference` is the Work of the uncompressed model, `further` are costs by name that others know:
    sizes of the files it will be written to, seconds on other devices.
    """

    device: Device
    latency_model: LatencyModel
    reference: Work
    further: Mapping[str, FurtherCost] = field(default_factory=dict)

    def price(
        self, blueprint: Blueprint, names: Collection[str] | None = None
    ) -> dict[str, float]:
        """Costs of a blueprint by name: latency_s and the ends of its interval latency_low_s and
        latency_high_s, macs, bops, peak_memory_bytes with its lower bound, weight_memory_bytes (where
        the device runs ONNX Runtime), energy_ratio (relative to the uncompressed model) and the
        further ones.

        Args:
            names: Only these; a search prices hundreds of candidates for a few of their costs.

        Raises:
            KeyError: There is no cost of such a name.
        """
        work = read_work(blueprint)
        found: dict[str, float] = {}
        for group, price in _GROUPS.items():
            if names is None or not group.isdisjoint(names):
                found |= price(self, blueprint, work)
        wanted = self.further if names is None else [n for n in names if n not in found]
        found |= {name: self.further[name](blueprint) for name in wanted}
        return found if names is None else {name: found[name] for name in names}


def _latency(models: CostModels, _: Blueprint, work: Work) -> dict[str, float]:
    estimate = models.latency_model.predict(work)
    return {
        "latency_s": estimate.value_s,
        "latency_low_s": estimate.low_s,
        "latency_high_s": estimate.high_s,
    }


def _operations(_: CostModels, __: Blueprint, work: Work) -> dict[str, float]:
    return {"macs": float(work.macs), "bops": float(work.bops)}


def _memory(models: CostModels, blueprint: Blueprint, _: Work) -> dict[str, float]:
    peak = peak_activation_bytes(blueprint, models.device)
    return {
        "peak_memory_bytes": float(peak.planned_bytes),
        "peak_memory_lower_bound_bytes": float(peak.lower_bound_bytes),
    }


def _weights(models: CostModels, _: Blueprint, work: Work) -> dict[str, float]:
    if not has_weight_memory(models.device):
        return {}
    return {WEIGHT_MEMORY: float(weight_memory_bytes(work, models.device))}


def has_weight_memory(device: Device) -> bool:
    """Whether it is known what weights take in the memory of the device's runtime."""
    return device.runtime.name == ONNX_RUNTIME


def _energy(models: CostModels, _: Blueprint, work: Work) -> dict[str, float]:
    return {"energy_ratio": energy_ratio(work, models.reference, models.device.energy)}


_GROUPS: Mapping[frozenset[str], Callable[[CostModels, Blueprint, Work], Mapping[str, float]]] = {
    frozenset({"latency_s", "latency_low_s", "latency_high_s"}): _latency,
    frozenset({"macs", "bops"}): _operations,
    frozenset({"peak_memory_bytes", "peak_memory_lower_bound_bytes"}): _memory,
    frozenset({WEIGHT_MEMORY}): _weights,
    frozenset({"energy_ratio"}): _energy,
}
"""Costs that are computed together."""
