"""A calibrated latency with a learned correction, for a hundred measured networks and more.

What the linear model misses (effects of one part on another, caches) is a smooth function of how
a network's time divides into parts. A Gaussian process learns it from the logarithm of measured
over calibrated time; far from all measured networks its correction fades to the mean one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from paredown.hardware_models.devices.device import Device
from paredown.hardware_models.latency.calibrated import (
    CalibratedLatency,
    error_bounds,
    fit,
    fit_factors,
    is_row,
    weights_of,
)
from paredown.hardware_models.latency.cross_fitting import Predict, cross_fit, folds_of
from paredown.hardware_models.latency.estimate import Estimate, Estimates
from paredown.hardware_models.latency.intervals import (
    ErrorBounds,
    Ratio,
    independent_ratio,
    mixes_of,
)
from paredown.hardware_models.latency.measurements import both_times
from paredown.hardware_models.latency.models import Array, parts_matrix_s
from paredown.hardware_models.work.workload import Work
from paredown.spaces.system.json_values import Json

FEWEST_NETWORKS = 100
# Chosen among by cross-validation: length in units of the root of the dimension, noise relative
# to the variance of the correction.
_LENGTHS = (0.7, 1.4, 2.8)
_NOISES = (0.1, 0.5, 2.0)
_RIDGE = 3e-4
_SMALLEST_SPREAD = 1e-6


@dataclass(frozen=True)
class _Process:
    """The posterior mean of a Gaussian process (Rasmussen and Williams 2006, equation 2.25).

    `points` (networks, features) are standardised by `centre` and `scale`; features that never
    vary have scale infinity and drop out.
    """

    centre: Array
    scale: Array
    points: Array
    weights: Array
    mean: float
    length: float

    def correction(self, features: Array) -> Array:
        """Logarithm of measured over calibrated time (candidates,) of features."""
        rows = (features - self.centre) / self.scale
        return self.mean + _kernel(rows, self.points, self.length) @ self.weights


@dataclass(frozen=True, kw_only=True)
class LearnedLatency:
    """A calibrated model times the exponential of a learned correction."""

    base: CalibratedLatency
    process: _Process
    bounds: ErrorBounds
    held_out_mape: float

    @property
    def source(self) -> str:
        """The source of the calibrated model, marked as corrected."""
        return f"learned correction of {self.base.source}"

    @property
    def device(self) -> Device:
        """The device of the calibrated model."""
        return self.base.device

    def predict(self, work: Work) -> Estimate:
        """Latency of `work` with its conformal 95 % interval."""
        return self.predict_many((work,))[0]

    def predict_many(self, works: Sequence[Work]) -> Estimates:
        """Latencies of a population with their conformal 95 % intervals."""
        value_s = self._seconds(self._parts(works))
        low_s, high_s = self.bounds.interval(value_s, mixes_of(works))
        return Estimates(
            value_s=value_s,
            low_s=low_s,
            high_s=high_s,
            source=self.source,
            held_out_mape=self.held_out_mape,
        )

    def predict_ratio(self, work: Work, baseline: Work) -> Ratio:
        """Latency of `work` over that of `baseline`."""
        parts = self._parts((work, baseline))
        over, under = self._seconds(parts)
        found = self.bounds.of_ratio(float(over / under), int(mixes_of((work,))[0]), parts[1])
        return found or independent_ratio(self.predict(work), self.predict(baseline))

    def _parts(self, works: Sequence[Work]) -> Array:
        return parts_matrix_s(works, self.base.preset)

    def _seconds(self, parts: Array) -> Array:
        return _corrected(parts, np.array(self.base.factors), self.process)

    def to_json(self) -> dict[str, Json]:
        """A JSON-ready description, the device included."""
        process = {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in vars(self.process).items()
        }
        process["scale"] = [s if np.isfinite(s) else None for s in self.process.scale.tolist()]
        return {
            "kind": "learned",
            "base": self.base.to_json(),
            "process": process,
            "bounds": self.bounds.to_json(),
            "held_out_mape": self.held_out_mape,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LearnedLatency:
        """The model that `to_json` wrote.

        Raises:
            CalibrationError: It was fitted to other parts than this version has.
        """
        stored = data["process"]
        scale = [np.inf if s is None else s for s in stored["scale"]]
        return cls(
            base=CalibratedLatency.from_json(data["base"]),
            process=_Process(
                centre=np.array(stored["centre"]),
                scale=np.array(scale),
                points=np.array(stored["points"]),
                weights=np.array(stored["weights"]),
                mean=float(stored["mean"]),
                length=float(stored["length"]),
            ),
            bounds=ErrorBounds.from_json(data["bounds"]),
            held_out_mape=float(data["held_out_mape"]),
        )


def fit_best(
    works: Sequence[Work],
    measured_s: Sequence[float],
    device: Device,
    *,
    threads: int = 1,
    fingerprint: str,
    reference: Work | None = None,
    groups: Sequence[int] | None = None,
    again_s: Sequence[float] | None = None,
) -> CalibratedLatency | LearnedLatency:
    """The calibrated model, or from 100 networks the learned one if its held-out error is less.

    Raises:
        CalibrationError: As `fit`.
    """
    linear = fit(
        works,
        measured_s,
        device,
        threads=threads,
        fingerprint=fingerprint,
        reference=reference,
        groups=groups,
        again_s=again_s,
    )
    if len(works) < FEWEST_NETWORKS:
        return linear
    learned = fit_learned(works, measured_s, linear, groups, again_s)
    return learned if learned.held_out_mape < linear.held_out_mape else linear


def fit_learned(
    works: Sequence[Work],
    measured_s: Sequence[float],
    base: CalibratedLatency,
    groups: Sequence[int] | None = None,
    again_s: Sequence[float] | None = None,
) -> LearnedLatency:
    """A correction of `base`, which was fitted to the same networks and times.

    Held-out errors are those of the whole model: neither the linear fit within a fold nor the
    choice of length and noise has seen the held-out networks.

    Raises:
        CalibrationError: Fewer than 100 networks, or measurements as `fit` refuses them.
    """
    first, times, again = both_times(works, measured_s, again_s, FEWEST_NETWORKS)
    parts = parts_matrix_s(works, base.preset)
    known = base.bounds.reference
    reference = None if known is None else np.array(known)
    fold = folds_of(len(times), groups)
    predict = _fit_and_predict(reference)
    held = cross_fit(parts, first, predict, fold, is_row(reference, parts), again)
    setting = _best_setting(parts, times)
    weights = weights_of(parts, reference)
    return LearnedLatency(
        base=base,
        process=_learn(parts, times, np.array(base.factors), *setting, weights),
        bounds=error_bounds(held, works, reference, base.device.relative_error_95.value),
        held_out_mape=held.mape,
    )


def _fit_and_predict(reference: Array | None) -> Predict:
    def _predict(parts: Array, times_s: Array, held: Array) -> Array:
        weights = weights_of(parts, reference)
        factors = fit_factors(parts, times_s, _RIDGE, weights)
        process = _learn(parts, times_s, factors, *_best_setting(parts, times_s), weights)
        return _corrected(held, factors, process)

    return _predict


def _best_setting(parts: Array, times_s: Array) -> tuple[float, float]:
    """Length and noise of the process that predicts networks held out of these best."""
    settings = tuple(product(_LENGTHS, _NOISES))
    errors = dict.fromkeys(settings, 0.0)
    fold = folds_of(len(times_s))
    for held in np.unique(fold):
        out = fold == held
        factors = fit_factors(parts[~out], times_s[~out], _RIDGE)
        for setting in settings:
            process = _learn(parts[~out], times_s[~out], factors, *setting)
            predicted = _corrected(parts[out], factors, process)
            errors[setting] += float(np.abs(times_s[out] / predicted - 1).sum())
    return min(settings, key=errors.__getitem__)


def _corrected(parts: Array, factors: Array, process: _Process) -> Array:
    linear = parts @ factors
    return np.asarray(linear * np.exp(process.correction(_features(parts, linear))))


def _learn(
    parts: Array,
    times_s: Array,
    factors: Array,
    length: float,
    noise: float,
    weights: Array | None = None,
) -> _Process:
    """The process of what `factors` leave; an error that counts w times has noise / w^2."""
    linear = parts @ factors
    features = _features(parts, linear)
    spread = features.std(axis=0)
    scale = np.where(spread > _SMALLEST_SPREAD, spread, np.inf)
    centre = features.mean(axis=0)
    points = (features - centre) / scale
    length = length * float(np.sqrt(np.isfinite(scale).sum()))
    residual = np.log(times_s / linear)
    mean = float(residual.mean())
    spread_of = np.ones(len(points)) if weights is None else weights**-2
    kernel = _kernel(points, points, length) + noise * np.diag(spread_of)
    solved = np.asarray(np.linalg.solve(kernel, residual - mean), dtype=np.float64)
    return _Process(centre, scale, points, solved, mean, length)


def _features(parts: Array, linear: Array) -> Array:
    """Shares of the parts in the calibrated time, and its logarithm: (networks, parts + 1)."""
    return np.hstack([parts / linear[:, None], np.log(linear)[:, None]])


def _kernel(first: Array, second: Array, length: float) -> Array:
    squares = (first**2).sum(1)[:, None] + (second**2).sum(1)[None] - 2 * first @ second.T
    return np.asarray(np.exp(-np.maximum(squares, 0.0) / (2 * length**2)))
