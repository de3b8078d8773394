"""A latency model fitted to measured networks: the preset's parts with one factor each.

Twenty-five networks of the space at hand are enough, because the fit starts from the preset:
factors are non-negative, and a ridge draws those that the measurements say little about to the
common factor of all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from paredown.hardware_models.device import Device
from paredown.hardware_models.features import PARTS, latency_parts_s
from paredown.hardware_models.latency import Estimate, check_threads
from paredown.hardware_models.workload import Work

Array = NDArray[np.float64]

COVERAGE = 0.95
# Below this count a conformal interval of 95 % has no finite width: ceil((n + 1) 0.95) > n.
FEWEST_NETWORKS = 20
_FOLDS = 5
# Weights of the ridge relative to the number of networks, chosen among by cross-validation.
_RIDGES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 1e-1)


class CalibrationError(ValueError):
    """Measurements that no latency model can be fitted to."""


@dataclass(frozen=True, kw_only=True)
class CalibratedLatency:
    """The preset's parts, each times its fitted factor (in the order of `PARTS`).

    `relative_error_95` bounds |measured / predicted - 1| in 95 % of new networks of the same
    space: the conformal quantile of cross-validated errors. `fingerprint` names the machine that
    measured.
    """

    device: Device
    threads: int
    factors: tuple[float, ...]
    relative_error_95: float
    held_out_mape: float
    networks: int
    fingerprint: str

    @property
    def source(self) -> str:
        return (
            f"calibrated {self.device.name} threads={self.threads} "
            f"networks={self.networks} on {self.fingerprint}"
        )

    def predict(self, work: Work) -> Estimate:
        """Latency of `work` with its conformal 95 % interval."""
        parts = latency_parts_s(work, self.device, self.threads)
        value_s = sum(parts[name] * f for name, f in zip(PARTS, self.factors, strict=True))
        return Estimate(
            value_s=value_s,
            low_s=max(0.0, value_s * (1 - self.relative_error_95)),
            high_s=value_s * (1 + self.relative_error_95),
            source=self.source,
            held_out_mape=self.held_out_mape,
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready description, the device included."""
        return {
            "device": self.device.model_dump(mode="json"),
            "threads": self.threads,
            "factors": dict(zip(PARTS, self.factors, strict=True)),
            "relative_error_95": self.relative_error_95,
            "held_out_mape": self.held_out_mape,
            "networks": self.networks,
            "fingerprint": self.fingerprint,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CalibratedLatency:
        """The model that `to_json` wrote.

        Raises:
            CalibrationError: It was fitted to other parts than this version has.
        """
        if set(data["factors"]) != set(PARTS):
            raise CalibrationError(
                f"a calibration needs a factor for each of {', '.join(PARTS)}; this one has "
                f"{', '.join(sorted(data['factors']))}: calibrate again with this version"
            )
        return cls(
            device=Device.model_validate(data["device"]),
            threads=int(data["threads"]),
            factors=tuple(float(data["factors"][name]) for name in PARTS),
            relative_error_95=float(data["relative_error_95"]),
            held_out_mape=float(data["held_out_mape"]),
            networks=int(data["networks"]),
            fingerprint=str(data["fingerprint"]),
        )


def fit(
    works: Sequence[Work],
    measured_s: Sequence[float],
    device: Device,
    *,
    threads: int = 1,
    fingerprint: str,
) -> CalibratedLatency:
    """A latency model of the networks' space on the machine that measured them.

    Minimises the squared *relative* errors over non-negative factors (Lawson and Hanson's NNLS)
    with a ridge towards the common factor; the ridge's weight and the interval come from five-fold
    cross-validation.

    Args:
        works: Networks drawn at random from the space that will be searched, at least 20.
        measured_s: Their latencies, in the same order.

    Raises:
        CalibrationError: Fewer than 20 networks, unequal counts, or a latency that is not
        positive.
    """
    check_threads(device, threads)
    times = np.asarray(measured_s, dtype=np.float64)
    _check(works, times)
    parts = np.array([_vector(work, device, threads) for work in works])
    errors = {ridge: _held_out_errors(parts, times, ridge) for ridge in _RIDGES}
    ridge = min(_RIDGES, key=lambda r: float(np.mean(errors[r] ** 2)))
    held_out = np.abs(errors[ridge])
    rank = math.ceil((len(times) + 1) * COVERAGE)
    return CalibratedLatency(
        device=device,
        threads=threads,
        factors=tuple(float(f) for f in fit_factors(parts, times, ridge)),
        relative_error_95=float(np.sort(held_out)[min(rank, len(times)) - 1]),
        held_out_mape=float(held_out.mean()),
        networks=len(times),
        fingerprint=fingerprint,
    )


def fit_factors(parts_s: Array, measured_s: Array, ridge: float) -> Array:
    """Non-negative factors (parts,) of the columns of `parts_s` (networks, parts).

    Minimises ‖P f / t - 1‖² + ridge · n · ‖f - c‖², where c is the one factor that fits best
    alone.
    """
    relative = parts_s / measured_s[:, None]
    whole = relative.sum(axis=1)
    common = float(whole.sum() / (whole @ whole))
    count, size = relative.shape
    weight = math.sqrt(ridge * count)
    design = np.vstack([relative, weight * np.eye(size)])
    target = np.concatenate([np.ones(count), np.full(size, weight * common)])
    factors, _ = nnls(design, target)
    return np.asarray(factors, dtype=np.float64)


def _vector(work: Work, device: Device, threads: int) -> list[float]:
    parts = latency_parts_s(work, device, threads)
    return [parts[name] for name in PARTS]


def _held_out_errors(parts: Array, times: Array, ridge: float) -> Array:
    """measured / predicted - 1 of every network, predicted without its fold."""
    fold = np.arange(len(times)) % _FOLDS
    errors = np.empty(len(times))
    for held in range(_FOLDS):
        factors = fit_factors(parts[fold != held], times[fold != held], ridge)
        errors[fold == held] = times[fold == held] / (parts[fold == held] @ factors) - 1
    return errors


def _check(works: Sequence[Work], times: Array) -> None:
    if len(works) != len(times):
        raise CalibrationError(
            f"every network needs one latency, got {len(works)} networks and "
            f"{len(times)} latencies; pass one for each"
        )
    if len(works) < FEWEST_NETWORKS:
        raise CalibrationError(
            f"a 95 % interval needs at least {FEWEST_NETWORKS} measured networks, "
            f"got {len(works)}; "
            "measure more candidates"
        )
    if not np.all(np.isfinite(times)) or np.any(times <= 0):
        raise CalibrationError("measured latencies must be finite and above zero; measure again")
