"""Latency predicted from Work: the interface all latency models share, and the preset's
roofline."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from paredown.hardware_models.device import Device
from paredown.hardware_models.features import PARTS, latency_parts_s, operator_parts_s
from paredown.hardware_models.workload import Work

Array = NDArray[np.float64]


class LatencyError(ValueError):
    """A latency model was asked for something it cannot give."""


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


class LatencyModel(Protocol):
    """Predicts the latency of one inference; called for every candidate, so it must be fast."""

    @property
    def source(self) -> str:
        """Name and version of the model: two models with one source give equal estimates."""

    def predict(self, work: Work) -> Estimate:
        """Latency of `work` at its batch size."""

    def predict_many(self, works: Sequence[Work]) -> Estimates:
        """Latencies of a population, equal to one call of `predict` for each."""

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready description: two models with one description give equal estimates."""


class AdditiveLatency(LatencyModel, Protocol):
    """A model whose latency is one run plus a sum over operators, so spaces can be compiled."""

    @property
    def device(self) -> Device:
        """The device whose memory levels and alignment the model uses."""

    @property
    def run_s(self) -> float:
        """Seconds that every run takes before its first operator."""

    def operators_s(self, work: Work, level: int | None = None) -> Array:
        """Seconds (operators,) of each operator, with weights read from that level of memory."""

    def interval(self, value_s: Array) -> tuple[Array, Array]:
        """Lower and upper ends of the 95 % intervals of latencies."""


def estimates_of(model: AdditiveLatency, value_s: Array, held_out_mape: float | None) -> Estimates:
    """Latencies with the intervals and the name of the model that made them."""
    low_s, high_s = model.interval(value_s)
    return Estimates(
        value_s=value_s,
        low_s=low_s,
        high_s=high_s,
        source=model.source,
        held_out_mape=held_out_mape,
    )


def one_by_one(predict: Callable[[Work], Estimate], works: Sequence[Work]) -> Estimates:
    """A population priced by a model that has no faster way.

    Raises:
        LatencyError: The population is empty: nobody would be the source.
    """
    if not works:
        raise LatencyError("a population must hold at least one candidate, got none; pass works")
    found = [predict(work) for work in works]
    return Estimates(
        value_s=np.array([e.value_s for e in found]),
        low_s=np.array([e.low_s for e in found]),
        high_s=np.array([e.high_s for e in found]),
        source=found[0].source,
        held_out_mape=found[0].held_out_mape,
    )


def parts_matrix_s(works: Sequence[Work], device: Device, threads: int) -> Array:
    """Seconds (networks, parts) by the preset, columns in the order of `PARTS`."""
    rows = [list(latency_parts_s(work, device, threads).values()) for work in works]
    return np.array(rows, dtype=np.float64).reshape(len(works), len(PARTS))


def weighted_operators_s(
    work: Work, device: Device, threads: int, factors: Mapping[str, float], level: int | None
) -> Array:
    """Seconds (operators,) of each operator: its parts times their factors."""
    rows = operator_parts_s(work, device, threads, level)
    # Operators alike share their parts, so each sum is made once; `rows` keeps identities apart.
    alike = {id(parts): parts for parts in rows}
    sums = {key: sum(factors[n] * s for n, s in parts.items()) for key, parts in alike.items()}
    return np.array([sums[id(parts)] for parts in rows])


def symmetric(value_s: Array, relative_error: float) -> tuple[Array, Array]:
    """Intervals of one relative error to both sides, never below zero."""
    return np.maximum(0.0, value_s * (1 - relative_error)), value_s * (1 + relative_error)


@dataclass(frozen=True)
class RooflineLatency:
    """A device's preset as it is: good for ranking and ratios, wide in seconds.

    Raises:
        LatencyError: `threads` is not among those the device has.
    """

    device: Device
    threads: int = 1

    def __post_init__(self) -> None:
        check_threads(self.device, self.threads)

    @property
    def source(self) -> str:
        return f"roofline {self.device.name} threads={self.threads}"

    @property
    def run_s(self) -> float:
        return self.device.overheads.run_s.value

    def predict(self, work: Work) -> Estimate:
        """Sum of the parts, with the interval the device file states."""
        return self.predict_many((work,))[0]

    def predict_many(self, works: Sequence[Work]) -> Estimates:
        value_s = parts_matrix_s(works, self.device, self.threads).sum(axis=1)
        return estimates_of(self, value_s, None)

    def operators_s(self, work: Work, level: int | None = None) -> Array:
        factors = dict.fromkeys(PARTS, 1.0)
        return weighted_operators_s(work, self.device, self.threads, factors, level)

    def interval(self, value_s: Array) -> tuple[Array, Array]:
        scale = self.device.scale_factor_95.value
        low_s, high_s = symmetric(value_s, self.device.relative_error_95.value)
        return low_s / scale, high_s * scale

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready description, the device included."""
        return {
            "kind": "roofline",
            "device": self.device.model_dump(mode="json"),
            "threads": self.threads,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RooflineLatency:
        """The model that `to_json` wrote."""
        return cls(Device.model_validate(data["device"]), int(data["threads"]))


@dataclass(frozen=True, kw_only=True)
class AnchoredLatency:
    """A preset times one factor: what it takes to know the speed of the machine at hand."""

    preset: RooflineLatency
    factor: float
    fingerprint: str

    @property
    def source(self) -> str:
        return f"{self.preset.source} x {self.factor:.4g} on {self.fingerprint}"

    @property
    def device(self) -> Device:
        return self.preset.device

    @property
    def run_s(self) -> float:
        return self.factor * self.preset.run_s

    def predict(self, work: Work) -> Estimate:
        """The preset's latency at this machine's speed."""
        return self.predict_many((work,))[0]

    def predict_many(self, works: Sequence[Work]) -> Estimates:
        value_s = self.factor * self.preset.predict_many(works).value_s
        return estimates_of(self, value_s, None)

    def operators_s(self, work: Work, level: int | None = None) -> Array:
        return self.factor * self.preset.operators_s(work, level)

    def interval(self, value_s: Array) -> tuple[Array, Array]:
        return symmetric(value_s, self.device.relative_error_95.value)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready description, the device included."""
        return {
            **self.preset.to_json(),
            "kind": "anchored",
            "factor": self.factor,
            "fingerprint": self.fingerprint,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> AnchoredLatency:
        """The model that `to_json` wrote."""
        return cls(
            preset=RooflineLatency.from_json(data),
            factor=float(data["factor"]),
            fingerprint=str(data["fingerprint"]),
        )


def anchor(
    preset: RooflineLatency, works: Sequence[Work], measured_s: Sequence[float], fingerprint: str
) -> AnchoredLatency:
    """The preset at the speed of a machine that measured a few networks; one is enough.

    The factor is the geometric mean of measured over predicted, so no network weighs more.

    Raises:
        LatencyError: No network was measured, or counts differ, or a latency is not positive.
    """
    if not works or len(works) != len(measured_s) or min(measured_s) <= 0:
        raise LatencyError(
            "a preset is anchored to one latency above zero per network, at least one, got "
            f"{len(works)} networks and latencies {list(measured_s)}; measure the model first"
        )
    logs = [
        math.log(measured / preset.predict(work).value_s)
        for work, measured in zip(works, measured_s, strict=True)
    ]
    return AnchoredLatency(
        preset=preset, factor=math.exp(sum(logs) / len(logs)), fingerprint=fingerprint
    )


def check_threads(device: Device, threads: int) -> None:
    """Nothing, if the device has that many threads.

    Raises:
        LatencyError: It has not.
    """
    if not 1 <= threads <= device.runtime.max_threads:
        raise LatencyError(
            f"threads on {device.name} must be in 1..{device.runtime.max_threads}, got {threads}; "
            "set hardware.threads in the config"
        )
