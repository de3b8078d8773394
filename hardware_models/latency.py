"""Latency predicted from Work: the interface all latency models share, and the preset's
roofline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from paredown.hardware_models.device import Device
from paredown.hardware_models.features import latency_parts_s
from paredown.hardware_models.workload import Work


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


class LatencyModel(Protocol):
    """Predicts the latency of one inference; called for every candidate, so it must be fast."""

    @property
    def source(self) -> str:
        """Name and version of the model: two models with one source give equal estimates."""

    def predict(self, work: Work) -> Estimate:
        """Latency of `work` at its batch size."""


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

    def predict(self, work: Work) -> Estimate:
        """Sum of the parts, with the interval the device file states."""
        value_s = sum(latency_parts_s(work, self.device, self.threads).values())
        error, scale = self.device.relative_error_95.value, self.device.scale_factor_95.value
        return Estimate(
            value_s=value_s,
            low_s=max(0.0, value_s * (1 - error)) / scale,
            high_s=value_s * (1 + error) * scale,
            source=self.source,
            held_out_mape=None,
        )


@dataclass(frozen=True, kw_only=True)
class AnchoredLatency:
    """A preset times one factor: what it takes to know the speed of the machine at hand."""

    preset: RooflineLatency
    factor: float
    fingerprint: str

    @property
    def source(self) -> str:
        return f"{self.preset.source} x {self.factor:.4g} on {self.fingerprint}"

    def predict(self, work: Work) -> Estimate:
        """The preset's latency at this machine's speed."""
        value_s = self.preset.predict(work).value_s * self.factor
        error = self.preset.device.relative_error_95.value
        return Estimate(
            value_s=value_s,
            low_s=max(0.0, value_s * (1 - error)),
            high_s=value_s * (1 + error),
            source=self.source,
            held_out_mape=None,
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
