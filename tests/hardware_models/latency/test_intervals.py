"""Intervals hold what they say for every mix of precision, and a ratio's for the ratio."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from paredown.hardware_models.latency.estimate import Estimate
from paredown.hardware_models.latency.intervals import (
    MIXES,
    ErrorBounds,
    bound_95,
    bounds_by_mix,
    independent_ratio,
    mixes_of,
)
from paredown.hardware_models.work.workload import OperatorWork, Work

SPREADS = np.array([0.01, 0.03, 0.12])
"""A law of errors: each mix has its own spread, twelve times apart."""


def layer(name: str, integer: bool, kind: str = "conv") -> OperatorWork:
    return OperatorWork(name=name, kind=kind, integer=integer)


@pytest.mark.parametrize(
    ("layers", "mix"),
    [((False, False), "float"), ((True, True), "8-bit"), ((False, True), "mixed"), ((), "float")],
)
def test_the_layers_tell_the_mix_and_nothing_else_does(layers, mix):
    operators = [layer(f"l{i}", integer) for i, integer in enumerate(layers)]
    others = [layer("q", False, "quantize"), layer("a", True, "add"), layer("s", False, "softmax")]
    (found,) = mixes_of([Work(operators=(*operators, *others))])
    assert MIXES[found] == mix


def test_the_bound_is_the_conformal_quantile():
    errors = np.array([(-1) ** i * (i + 1) / 100 for i in range(40)])
    # ceil(41 x 0.95) = 39 of 40.
    assert bound_95(errors, 9.0) == 0.39
    # ceil(20 x 0.95) = 19 of 19, and of 18 there is no such error.
    assert bound_95(errors[:19], 9.0) == 0.19
    assert bound_95(errors[:18], 9.0) == 9.0


def drawn(random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    mixes = np.arange(count) % 3
    return random.standard_t(4, count) * SPREADS[mixes], mixes


def test_every_mix_is_covered_where_errors_follow_a_known_law():
    """Mean coverage of a conformal bound from n errors is ceil(0.95 (n + 1)) / (n + 1), exactly."""
    random = np.random.default_rng(0)
    calibrations, fresh, each = 400, 300, 40
    held = np.zeros(3)
    for _ in range(calibrations):
        bounds = np.array(bounds_by_mix(*drawn(random, 3 * each), 9.0))
        errors, mixes = drawn(random, fresh)
        inside = np.abs(errors) <= bounds[mixes]
        held += [inside[mixes == mix].mean() for mix in range(3)]
    expected = math.ceil(0.95 * (each + 1)) / (each + 1)
    # Of one calibration the coverage is a Beta(39, 2) variable; of its test a binomial one.
    a, b = 39, 2
    variance = a * b / ((a + b) ** 2 * (a + b + 1)) + expected * (1 - expected) / (fresh / 3)
    assert held / calibrations == pytest.approx(
        expected, abs=3.5 * (variance / calibrations) ** 0.5
    )


def test_one_bound_for_all_would_fail_the_widest_mix():
    random = np.random.default_rng(1)
    errors, _ = drawn(random, 6000)
    pooled = bound_95(errors, 9.0)
    fresh, mixes = drawn(random, 6000)
    inside = int((np.abs(fresh[mixes == 2]) <= pooled).sum())
    assert binom.cdf(inside, 2000, 0.95) < 1e-6


def test_a_mix_of_few_networks_takes_the_bound_of_all():
    errors, mixes = drawn(np.random.default_rng(2), 90)
    mixes = np.where(mixes == 1, 0, mixes)
    found = bounds_by_mix(errors, mixes, 9.0)
    assert found[1] == bound_95(errors, 9.0)
    assert found[2] == bound_95(errors[mixes == 2], 9.0)
    assert bounds_by_mix(errors[:12], mixes[:12], 9.0) == (9.0, 9.0, 9.0)


def test_bounds_survive_json_and_know_their_reference():
    bounds = ErrorBounds(seconds=(0.1, 0.2, 0.3), ratio=(0.05, 0.06, 0.07), reference=(1.0, 1 / 3))
    assert ErrorBounds.from_json(bounds.to_json()) == bounds
    plain = replace(bounds, ratio=None, reference=None)
    assert ErrorBounds.from_json(plain.to_json()) == plain
    found = bounds.of_ratio(0.5, 2, np.array([1.0, 1 / 3]))
    assert found is not None
    assert (found.low, found.high) == (pytest.approx(0.465), pytest.approx(0.535))
    assert bounds.of_ratio(0.5, 2, np.array([1.0, 0.3])) is None
    assert plain.of_ratio(0.5, 2, np.array([1.0, 1 / 3])) is None


def test_the_machines_unknown_speed_cancels_in_a_ratio():
    def estimate(value_s: float, error: float, scale: float) -> Estimate:
        return Estimate(
            value_s=value_s,
            low_s=value_s / (1 + error) / scale,
            high_s=value_s * (1 + error) * scale,
            source="made up",
            held_out_mape=None,
        )

    found = independent_ratio(estimate(1.0, 0.2, 3.0), estimate(2.0, 0.0, 3.0), 3.0)

    assert found.value == pytest.approx(0.5)
    assert (found.low, found.high) == (pytest.approx(0.5 / 1.2), pytest.approx(0.5 * 1.2))
