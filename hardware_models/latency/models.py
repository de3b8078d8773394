"""Latency predicted from Work: the interface all latency models share, and the preset's
roofline."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from paredown.hardware_models.devices.device import Device
from paredown.hardware_models.latency.estimate import Estimate, Estimates
from paredown.hardware_models.latency.intervals import (
    Indices,
    Ratio,
    independent_ratio,
    mixes_of,
    symmetric,
)
from paredown.hardware_models.work.features import PARTS, Preset
from paredown.hardware_models.work.workload import Work
from paredown.spaces.system.errors import ParedownError
from paredown.spaces.system.json_values import Json

Array = NDArray[np.float64]


class LatencyError(ParedownError):
    """A latency model was asked for something it cannot give."""


class LatencyModel(Protocol):
    """Predicts the latency of one inference; called for every candidate, so it must be fast."""

    @property
    def source(self) -> str:
        """Name and version of the model: two models with one source give equal estimates."""

    def predict(self, work: Work) -> Estimate:
        """Latency of `work` at its batch size."""

    def predict_many(self, works: Sequence[Work]) -> Estimates:
        """Latencies of a population, equal to one call of `predict` for each."""

    def predict_ratio(self, work: Work, baseline: Work) -> Ratio:
        """Latency of `work` over that of `baseline`: what two runs of one machine agree on."""

    def to_json(self) -> dict[str, Json]:
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

    def interval(self, value_s: Array, mixes: Indices) -> tuple[Array, Array]:
        """Lower and upper ends of the 95 % intervals of latencies of networks of these mixes."""


def estimates_of(
    model: AdditiveLatency, value_s: Array, works: Sequence[Work], held_out_mape: float | None
) -> Estimates:
    """Latencies of works with the intervals and the name of the model that made them."""
    low_s, high_s = model.interval(value_s, mixes_of(works))
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


def parts_matrix_s(works: Sequence[Work], preset: Preset) -> Array:
    """Seconds (networks, parts) by the preset, columns in the order of `PARTS`."""
    rows = [list(preset.total_s(work).values()) for work in works]
    return np.array(rows, dtype=np.float64).reshape(len(works), len(PARTS))


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
        """Name of the device and number of threads."""
        return f"roofline {self.device.name} threads={self.threads}"

    @functools.cached_property
    def preset(self) -> Preset:
        """The device's preset, with what it has priced."""
        return Preset(self.device, self.threads)

    @property
    def run_s(self) -> float:
        """Seconds that every run takes before its first operator, from the device file."""
        return self.device.overheads.run_s.value

    def predict(self, work: Work) -> Estimate:
        """Sum of the parts, with the interval the device file states."""
        return self.predict_many((work,))[0]

    def predict_many(self, works: Sequence[Work]) -> Estimates:
        """Latencies of a population, with the intervals the device file states."""
        value_s = parts_matrix_s(works, self.preset).sum(axis=1)
        return estimates_of(self, value_s, works, None)

    def predict_ratio(self, work: Work, baseline: Work) -> Ratio:
        """Latency of `work` over that of `baseline`: the machine's speed cancels."""
        scale = self.device.scale_factor_95.value
        return independent_ratio(self.predict(work), self.predict(baseline), scale)

    def operators_s(self, work: Work, level: int | None = None) -> Array:
        """Seconds (operators,) of each operator: the sum of its parts."""
        factors = dict.fromkeys(PARTS, 1.0)
        return np.array(self.preset.weighted_s(work, factors, level))

    def interval(self, value_s: Array, mixes: Indices) -> tuple[Array, Array]:
        """Lower and upper ends by the device's relative error and its unknown speed."""
        scale = self.device.scale_factor_95.value
        low_s, high_s = symmetric(value_s, self.device.relative_error_95.value)
        return low_s / scale, high_s * scale

    def to_json(self) -> dict[str, Json]:
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
