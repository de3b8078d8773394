"""A latency model fitted to measured networks: the preset's parts with one factor each.

Five networks of the space at hand are enough to start with, because the fit starts from the
preset: factors are non-negative, and a ridge draws those that the measurements say little about
to the common factor of all.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from paredown.hardware_models.devices.device import Device
from paredown.hardware_models.latency.cross_fitting import (
    HeldOut,
    Predict,
    cross_fit,
    folds_of,
    held_out_errors,
)
from paredown.hardware_models.latency.estimate import Estimate, Estimates
from paredown.hardware_models.latency.intervals import (
    FEWEST_NETWORKS as FEWEST_FOR_CONFORMAL,
)
from paredown.hardware_models.latency.intervals import (
    ErrorBounds,
    Indices,
    Ratio,
    bounds_by_mix,
    independent_ratio,
    mixes_of,
)
from paredown.hardware_models.latency.measurements import CalibrationError as CalibrationError
from paredown.hardware_models.latency.measurements import both_times
from paredown.hardware_models.latency.models import (
    Array,
    check_threads,
    estimates_of,
    parts_matrix_s,
)
from paredown.hardware_models.work.features import PARTS, STEP_PARTS, Preset
from paredown.hardware_models.work.workload import Work
from paredown.spaces.system.json_values import Json

FEWEST_NETWORKS = 5
REFERENCE_WEIGHT = 10.0
"""How much more the reference network's error counts than another's: ratios to it are then off by the
candidate's error alone. On 240 candidates of digits it took the mean error of ratios from 8.3 to 5.7 %,
that of seconds from 5.4 to 5.6 %."""
# Weights of the ridge relative to the number of networks, chosen among by cross-validation.
_RIDGES = (1e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 1e-1)


@dataclass(frozen=True, kw_only=True)
class CalibratedLatency:
    """The preset's parts, each times its fitted factor (in the order of `PARTS`).

    `bounds` are those of new networks of the same space: conformal quantiles of cross-fitted
    errors, or what the preset states where there are too few networks for one. `fingerprint` names
    the machine that measured.
    """

    device: Device
    threads: int
    factors: tuple[float, ...]
    bounds: ErrorBounds
    held_out_mape: float
    networks: int
    fingerprint: str

    @property
    def is_conformal(self) -> bool:
        """Whether the interval comes from held-out errors, not from the preset."""
        return self.networks >= FEWEST_FOR_CONFORMAL

    @property
    def source(self) -> str:
        """Device, threads, networks and fingerprint, and a note if the interval is the preset's."""
        interval = "" if self.is_conformal else ", interval of the preset (fewer than 20 networks)"
        return (
            f"calibrated {self.device.name} threads={self.threads} "
            f"networks={self.networks} on {self.fingerprint}{interval}"
        )

    @functools.cached_property
    def preset(self) -> Preset:
        """The device's preset, with what it has priced."""
        return Preset(self.device, self.threads)

    @property
    def run_s(self) -> float:
        """Seconds that every run takes before its first operator, times its factor."""
        return self.device.overheads.run_s.value * self.factors[PARTS.index("run")]

    def predict(self, work: Work) -> Estimate:
        """Latency of `work` with its 95 % interval."""
        return self.predict_many((work,))[0]

    def predict_many(self, works: Sequence[Work]) -> Estimates:
        """Latencies of a population with their 95 % intervals."""
        value_s = parts_matrix_s(works, self.preset) @ np.array(self.factors)
        return estimates_of(self, value_s, works, self.held_out_mape)

    def predict_ratio(self, work: Work, baseline: Work) -> Ratio:
        """Latency of `work` over that of `baseline`."""
        parts = parts_matrix_s((work, baseline), self.preset)
        over, under = parts @ np.array(self.factors)
        found = self.bounds.of_ratio(float(over / under), int(mixes_of((work,))[0]), parts[1])
        return found or independent_ratio(self.predict(work), self.predict(baseline))

    def operators_s(self, work: Work, level: int | None = None) -> Array:
        """Seconds (operators,) of each operator: its parts times their fitted factors."""
        factors = dict(zip(PARTS, self.factors, strict=True))
        return np.array(self.preset.weighted_s(work, factors, level))

    def interval(self, value_s: Array, mixes: Indices) -> tuple[Array, Array]:
        """Lower and upper ends of the 95 % intervals, by the bound of each network's mix."""
        return self.bounds.interval(value_s, mixes)

    def to_json(self) -> dict[str, Json]:
        """A JSON-ready description, the device included."""
        return {
            "kind": "calibrated",
            "device": self.device.model_dump(mode="json"),
            "threads": self.threads,
            "factors": dict(zip(PARTS, self.factors, strict=True)),
            "bounds": self.bounds.to_json(),
            "held_out_mape": self.held_out_mape,
            "networks": self.networks,
            "fingerprint": self.fingerprint,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CalibratedLatency:
        """The model that `to_json` wrote.

        Raises:
            CalibrationError: It was fitted to other parts than this version has. Those of recurrent
                layers may be missing together, as in files from before they were known.
        """
        differ = set(data["factors"]) ^ set(PARTS)
        if other := sorted(differ if differ != set(STEP_PARTS) else ()):
            more = f" and {len(other) - 3} more" if len(other) > 3 else ""
            raise CalibrationError(
                f"a calibration must have a factor for each of the {len(PARTS)} parts of this "
                f"version, got {len(other)} that differ: {', '.join(other[:3])}{more}; calibrate "
                "again, or use the version that wrote it"
            )
        return cls(
            device=Device.model_validate(data["device"]),
            threads=int(data["threads"]),
            # Before recurrent layers had parts of their own none was measured: the preset's factor.
            factors=tuple(float(data["factors"].get(name, 1.0)) for name in PARTS),
            bounds=ErrorBounds.from_json(data["bounds"]),
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
    reference: Work | None = None,
    groups: Sequence[int] | None = None,
    again_s: Sequence[float] | None = None,
) -> CalibratedLatency:
    """A latency model of the networks' space on the machine that measured them.

    Minimises the squared *relative* errors over non-negative factors (Lawson and Hanson's NNLS)
    with a ridge towards the common factor, whose weight is chosen by five-fold cross-validation
    (leave-one-out below 20 networks). Bounds come from networks that had no part in the fit that
    priced them, nor in its choice of a ridge.

    Args:
        works: Networks drawn at random from the space that will be searched, at least 5.
        measured_s: Their latencies, in the same order.
        reference: The uncompressed network, one of `works`: what ratios are taken against.
        groups: Architecture of each network, at least 5 of them, held out whole: for a model that
            will be asked about new architectures.
        again_s: Their latencies at another time, in fresh sessions: the model is fitted to the mean of
            both, and its bounds say how a fit to the first alone predicts the second.

    Raises:
        CalibrationError: Fewer than 5 networks, unequal counts, or a latency that is not positive.
    """
    check_threads(device, threads)
    first, times, again = both_times(works, measured_s, again_s, FEWEST_NETWORKS)
    preset = Preset(device, threads)
    parts = parts_matrix_s(works, preset)
    rows = None if reference is None else parts_matrix_s((reference,), preset)[0]
    predict = _fit_and_predict(rows)
    fold = folds_of(len(times), groups)
    held = cross_fit(parts, first, predict, fold, is_row(rows, parts), again)
    factors = fit_factors(parts, times, best_ridge(parts, times), weights_of(parts, rows))
    return CalibratedLatency(
        device=device,
        threads=threads,
        factors=tuple(float(f) for f in factors),
        bounds=error_bounds(held, works, rows, device.relative_error_95.value),
        held_out_mape=held.mape,
        networks=len(times),
        fingerprint=fingerprint,
    )


def best_ridge(parts_s: Array, measured_s: Array) -> float:
    """The weight of the ridge that predicts networks held out of these best."""

    def _error(ridge: float) -> float:
        return float(np.mean(held_out_errors(parts_s, measured_s, _with_ridge(ridge)) ** 2))

    return min(_RIDGES, key=_error)


def error_bounds(
    held: HeldOut, works: Sequence[Work], reference: Array | None, otherwise: float
) -> ErrorBounds:
    """Bounds from held-out errors; `otherwise` where there are too few networks.

    Args:
        reference: The parts of the reference network.
    """
    mixes = mixes_of(works)[held.networks]
    seconds = bounds_by_mix(held.seconds, mixes, otherwise)
    if held.ratio is None or reference is None or len(works) < FEWEST_FOR_CONFORMAL:
        return ErrorBounds(seconds=seconds)
    return ErrorBounds(
        seconds=seconds,
        ratio=bounds_by_mix(held.ratio, mixes, otherwise),
        reference=tuple(reference.tolist()),
    )


def fit_factors(
    parts_s: Array, measured_s: Array, ridge: float, weights: Array | None = None
) -> Array:
    """Non-negative factors (parts,) of the columns of `parts_s` (networks, parts).

    Minimises ‖w (P f / t - 1)‖² + ridge · n · ‖f - c‖², where c is the one factor that fits best
    alone. Without `weights` (networks,) all w are 1.
    """
    relative = parts_s / measured_s[:, None]
    whole = relative.sum(axis=1)
    common = float(whole.sum() / (whole @ whole))
    count, size = relative.shape
    weights = np.ones(count) if weights is None else weights
    ridge_weight = math.sqrt(ridge * count)
    design = np.vstack([weights[:, None] * relative, ridge_weight * np.eye(size)])
    target = np.concatenate([weights, np.full(size, ridge_weight * common)])
    factors, _ = nnls(design, target)
    return np.asarray(factors, dtype=np.float64)


def _fit_and_predict(reference: Array | None) -> Predict:
    def _predict(parts: Array, times_s: Array, held: Array) -> Array:
        ridge, weights = best_ridge(parts, times_s), weights_of(parts, reference)
        return np.asarray(held @ fit_factors(parts, times_s, ridge, weights))

    return _predict


def _with_ridge(ridge: float) -> Predict:
    def _predict(parts: Array, times_s: Array, held: Array) -> Array:
        return np.asarray(held @ fit_factors(parts, times_s, ridge))

    return _predict


def weights_of(parts_s: Array, reference: Array | None) -> Array:
    """How much each network's error counts (networks,): that of the reference more than all others.

    Args:
        reference: Its parts; None where there is no reference.
    """
    return np.where(is_row(reference, parts_s), REFERENCE_WEIGHT, 1.0)


def is_row(row: Array | None, rows: Array) -> NDArray[np.bool_]:
    """Which of `rows` (networks, parts) the model cannot distinguish from `row`."""
    if row is None:
        return np.zeros(len(rows), bool)
    return np.asarray((rows == row).all(axis=1))
