"""A preset at the speed of the machine at hand, from as little as one measured network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paredown.hardware_models.devices.device import Device
from paredown.hardware_models.latency.estimate import Estimate, Estimates
from paredown.hardware_models.latency.intervals import Indices, Ratio, independent_ratio, symmetric
from paredown.hardware_models.latency.models import (
    Array,
    LatencyError,
    RooflineLatency,
    estimates_of,
)
from paredown.hardware_models.work.workload import Work


@dataclass(frozen=True, kw_only=True)
class AnchoredLatency:
    """A preset times one factor: what it takes to know the speed of the machine at hand."""

    preset: RooflineLatency
    factor: float
    fingerprint: str

    @property
    def source(self) -> str:
        """The preset's source, the factor and the machine's fingerprint."""
        return f"{self.preset.source} x {self.factor:.4g} on {self.fingerprint}"

    @property
    def device(self) -> Device:
        """The device of the preset."""
        return self.preset.device

    @property
    def run_s(self) -> float:
        """Seconds that every run takes before its first operator, at this machine's speed."""
        return self.factor * self.preset.run_s

    def predict(self, work: Work) -> Estimate:
        """The preset's latency at this machine's speed."""
        return self.predict_many((work,))[0]

    def predict_many(self, works: Sequence[Work]) -> Estimates:
        """Latencies of a population, with the relative error of the preset."""
        value_s = self.factor * self.preset.predict_many(works).value_s
        return estimates_of(self, value_s, works, None)

    def predict_ratio(self, work: Work, baseline: Work) -> Ratio:
        """Latency of `work` over that of `baseline`."""
        return independent_ratio(self.predict(work), self.predict(baseline))

    def operators_s(self, work: Work, level: int | None = None) -> Array:
        """Seconds (operators,) of each operator by the preset, times the factor."""
        return self.factor * self.preset.operators_s(work, level)

    def interval(self, value_s: Array, mixes: Indices) -> tuple[Array, Array]:
        """Lower and upper ends by the device's relative error, whatever the mixes."""
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
