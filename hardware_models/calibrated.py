"""A latency model fitted to measured networks: the preset's parts with one factor each.

Five networks of the space at hand are enough to start with, because the fit starts from the
preset: factors are non-negative, and a ridge draws those that the measurements say little about
to the common factor of all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import nnls

from paredown.hardware_models.device import Device
from paredown.hardware_models.features import PARTS
from paredown.hardware_models.latency import (
    Array,
    Estimate,
    Estimates,
    check_threads,
    estimates_of,
    parts_matrix_s,
    symmetric,
    weighted_operators_s,
)
from paredown.hardware_models.workload import Work

COVERAGE = 0.95
FEWEST_NETWORKS = 5
FEWEST_FOR_CONFORMAL = 20
"""Below, a conformal interval of 95 % has no finite width: ceil((n + 1) 0.95) > n."""
_FOLDS = 5
# Weights of the ridge relative to the number of networks, chosen among by cross-validation.
_RIDGES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 1e-1)


class CalibrationError(ValueError):
    """Measurements that no latency model can be fitted to."""


@dataclass(frozen=True, kw_only=True)
class CalibratedLatency:
    """The preset's parts, each times its fitted factor (in the order of `PARTS`).

    `relative_error_95` bounds |measured / predicted - 1| in 95 % of new networks of the same
    space: the conformal quantile of cross-validated errors, or what the preset states where there
    are too few networks for one. `fingerprint` names the machine that measured.
    """

    device: Device
    threads: int
    factors: tuple[float, ...]
    relative_error_95: float
    held_out_mape: float
    networks: int
    fingerprint: str

    @property
    def is_conformal(self) -> bool:
        """Whether the interval comes from held-out errors, not from the preset."""
        return self.networks >= FEWEST_FOR_CONFORMAL

    @property
    def source(self) -> str:
        interval = "" if self.is_conformal else ", interval of the preset (fewer than 20 networks)"
        return (
            f"calibrated {self.device.name} threads={self.threads} "
            f"networks={self.networks} on {self.fingerprint}{interval}"
        )

    @property
    def run_s(self) -> float:
        return self.device.overheads.run_s.value * self.factors[PARTS.index("run")]

    def predict(self, work: Work) -> Estimate:
        """Latency of `work` with its 95 % interval."""
        return self.predict_many((work,))[0]

    def predict_many(self, works: Sequence[Work]) -> Estimates:
        value_s = parts_matrix_s(works, self.device, self.threads) @ np.array(self.factors)
        return estimates_of(self, value_s, self.held_out_mape)

    def operators_s(self, work: Work, level: int | None = None) -> Array:
        factors = dict(zip(PARTS, self.factors, strict=True))
        return weighted_operators_s(work, self.device, self.threads, factors, level)

    def interval(self, value_s: Array) -> tuple[Array, Array]:
        return symmetric(value_s, self.relative_error_95)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready description, the device included."""
        return {
            "kind": "calibrated",
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
    cross-validation (leave-one-out below 20 networks).

    Args:
        works: Networks drawn at random from the space that will be searched, at least 5.
        measured_s: Their latencies, in the same order.

    Raises:
        CalibrationError: Fewer than 5 networks, unequal counts, or a latency that is not positive.
    """
    check_threads(device, threads)
    times = np.asarray(measured_s, dtype=np.float64)
    check_measurements(len(works), times, FEWEST_NETWORKS)
    parts = parts_matrix_s(works, device, threads)
    errors = {ridge: held_out_errors(parts, times, _predictor(ridge)) for ridge in _RIDGES}
    ridge = min(_RIDGES, key=lambda r: float(np.mean(errors[r] ** 2)))
    held_out = np.abs(errors[ridge])
    return CalibratedLatency(
        device=device,
        threads=threads,
        factors=tuple(float(f) for f in fit_factors(parts, times, ridge)),
        relative_error_95=error_95(held_out, device.relative_error_95.value),
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


def held_out_errors(
    rows: Array, times_s: Array, predict: Callable[[Array, Array, Array], Array]
) -> Array:
    """measured / predicted - 1 of every network, predicted without its fold.

    Args:
        predict: From fitted rows, their times and held-out rows to predicted seconds.
    """
    folds = _FOLDS if len(times_s) >= FEWEST_FOR_CONFORMAL else len(times_s)
    fold = np.arange(len(times_s)) % folds
    errors = np.empty(len(times_s))
    for held in range(folds):
        out = fold == held
        errors[out] = times_s[out] / predict(rows[~out], times_s[~out], rows[out]) - 1
    return errors


def error_95(absolute_errors: Array, otherwise: float) -> float:
    """Conformal 95 % quantile of held-out errors (Vovk, Gammerman and Shafer 2005).

    `otherwise` where there are fewer than 20.
    """
    rank = math.ceil((len(absolute_errors) + 1) * COVERAGE)
    if rank > len(absolute_errors):
        return otherwise
    return float(np.sort(absolute_errors)[rank - 1])


def check_measurements(networks: int, times_s: Array, fewest: int) -> None:
    """Nothing, if a model can be fitted to these measurements.

    Raises:
        CalibrationError: It cannot.
    """
    if networks != len(times_s):
        raise CalibrationError(
            f"every network needs one latency, got {networks} networks and "
            f"{len(times_s)} latencies; pass one for each"
        )
    if networks < fewest:
        raise CalibrationError(
            f"this fit needs at least {fewest} measured networks, got {networks}; "
            "measure more candidates"
        )
    if not np.all(np.isfinite(times_s)) or np.any(times_s <= 0):
        raise CalibrationError("measured latencies must be finite and above zero; measure again")


def _predictor(ridge: float) -> Callable[[Array, Array, Array], Array]:
    def predict(parts: Array, times_s: Array, held: Array) -> Array:
        return np.asarray(held @ fit_factors(parts, times_s, ridge))

    return predict
