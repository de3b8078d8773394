from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.latency.calibrated import (
    CalibratedLatency,
    CalibrationError,
    fit,
    fit_factors,
)
from paredown.hardware_models.work.features import PARTS, STEP_PARTS, Preset
from paredown.hardware_models.work.workload import OperatorWork, Work

X86 = load_device("x86-avx512-vnni-ort")


def random_network(random: np.random.Generator) -> Work:
    operators = []
    for index in range(12):
        channels = 16 * int(random.integers(1, 5))
        integer = bool(random.integers(2))
        operators.append(
            OperatorWork(
                name=f"conv{index}",
                kind="conv",
                macs=channels * channels * 9 * 256,
                integer=integer,
                onnx_type="int8" if integer else "float32",
                in_channels=channels,
                out_channels=channels,
                kernel_size=(3, 3),
                input_elements=channels * 256,
                output_elements=channels * 256,
                weight_count=channels * channels * 9,
                out_spatial=256,
            )
        )
        edge = replace(operators[-1], name=f"edge{index}", kind="quantize", macs=0)
        operators += [edge] * int(random.integers(3))
    return Work(operators=tuple(operators))


def mixed_network(random: np.random.Generator, mix: int) -> Work:
    """A network all in float (0), all on integer kernels (1), or some of each (2)."""
    operators = []
    for index, op in enumerate(random_network(random).operators):
        integer = (False, True, index % 2 == 0)[mix]
        is_layer = op.kind == "conv"
        onnx_type = "int8" if is_layer and integer else "float32"
        operators.append(replace(op, integer=is_layer and integer, onnx_type=onnx_type))
    return Work(operators=tuple(operators))


def networks(count: int, seed: int = 0) -> list[Work]:
    random = np.random.default_rng(seed)
    return [random_network(random) for _ in range(count)]


def truth_s(work: Work, noise: float = 0.0) -> float:
    """A machine whose parts take other multiples of the preset than one."""
    factors = {"conv_macs": 1.6, "int8_conv_macs": 2.4, "quantize_calls": 0.4}
    parts = Preset(X86).total_s(work)
    return sum(factors.get(name, 1.2) * value for name, value in parts.items()) * (1 + noise)


def test_factors_of_a_machine_are_recovered():
    random = np.random.default_rng(1)
    parts = random.uniform(0.1, 1.0, (60, 5))
    factors = np.array([0.0, 0.5, 1.0, 2.0, 4.0])
    found = fit_factors(parts, parts @ factors, ridge=1e-10)
    assert found == pytest.approx(factors, abs=1e-4)


def test_the_fit_is_the_minimum_that_scipy_finds():
    random = np.random.default_rng(2)
    parts, times = random.uniform(0, 1, (30, 4)), random.uniform(1, 2, 30)
    ridge, relative = 1e-2, parts / times[:, None]
    whole = relative.sum(1)
    common = whole.sum() / (whole @ whole)

    def loss(f):
        return np.sum((relative @ f - 1) ** 2) + ridge * 30 * np.sum((f - common) ** 2)

    best = minimize(loss, np.ones(4), bounds=[(0, None)] * 4, tol=1e-14)
    found = fit_factors(parts, times, ridge)
    assert np.all(found >= 0)
    assert loss(found) == pytest.approx(best.fun, rel=1e-6)


def test_a_strong_ridge_leaves_one_common_factor():
    random = np.random.default_rng(3)
    parts = random.uniform(0.1, 1, (20, 4))
    assert fit_factors(parts, 3 * parts.sum(1), ridge=1e6) == pytest.approx(3.0, rel=1e-4)


def test_twenty_five_networks_calibrate_another_machine():
    works = networks(25)
    model = fit(works, [truth_s(w) for w in works], X86, fingerprint="test")
    fresh = networks(40, seed=1)
    errors = [abs(model.predict(w).value_s / truth_s(w) - 1) for w in fresh]
    assert np.mean(errors) < 0.03
    assert model.held_out_mape < 0.03


def test_the_interval_covers_what_it_says():
    random = np.random.default_rng(5)
    noisy = [(w, truth_s(w, float(random.normal(0, 0.05)))) for w in networks(240, seed=2)]
    model = fit([w for w, _ in noisy[:40]], [t for _, t in noisy[:40]], X86, fingerprint="test")
    inside = [
        (estimate := model.predict(work)).low_s <= time <= estimate.high_s
        for work, time in noisy[40:]
    ]
    assert 0.9 <= np.mean(inside) <= 1.0
    assert all(0.05 < bound < 0.25 for bound in model.bounds.seconds)


def test_the_reference_is_predicted_as_it_was_measured():
    """An error of 8 % that nothing explains, and ratios told against it."""
    works = networks(60)
    times = [truth_s(w) for w in works]
    times[0] *= 1.08
    plain = fit(works, times, X86, fingerprint="test")
    model = fit(works, times, X86, fingerprint="test", reference=works[0])
    assert abs(plain.predict(works[0]).value_s / times[0] - 1) > 0.03
    assert model.predict(works[0]).value_s == pytest.approx(times[0], rel=0.02)
    assert plain.bounds.ratio is None
    fresh = networks(20, seed=1)
    ratios = [model.predict_ratio(w, works[0]).value * times[0] / truth_s(w) for w in fresh]
    assert np.mean(np.abs(np.array(ratios) - 1)) < 0.04


def test_a_ratio_to_another_network_takes_both_errors():
    works = networks(60)
    model = fit(works, [truth_s(w) for w in works], X86, fingerprint="test", reference=works[0])
    known, other = (model.predict_ratio(works[2], works[i]) for i in (0, 1))
    assert other.high / other.low > known.high / known.low


def test_ratios_keep_their_intervals_whatever_the_precision():
    """Errors with a spread of each mix, 1, 3 and 8 %: 95 % of new networks of each are inside."""
    spreads, held, count = np.array([0.01, 0.03, 0.08]), np.zeros(3), np.zeros(3)
    calibrations, each = 8, 40
    for seed in range(calibrations):
        random = np.random.default_rng(seed)
        works = [mixed_network(random, mix) for _ in range(each) for mix in (0, 1, 2)]
        fresh = [mixed_network(random, mix) for _ in range(60) for mix in (0, 1, 2)]
        mixes = np.arange(len(works)) % 3
        times = [
            truth_s(w, random.normal(0, s)) for w, s in zip(works, spreads[mixes], strict=False)
        ]
        times[0] = truth_s(works[0])
        model = fit(works, times, X86, fingerprint="test", reference=works[0])
        for index, work in enumerate(fresh):
            ratio = truth_s(work, random.normal(0, spreads[index % 3])) / times[0]
            told = model.predict_ratio(work, works[0])
            held[index % 3] += told.low <= ratio <= told.high
            count[index % 3] += 1
    # A calibration's coverage is a Beta(39, 2) variable, its test binomial.
    expected = 39 / 41
    spread = (expected * (1 - expected) * (1 / 42 + 1 / 60) / calibrations) ** 0.5
    assert np.all(held / count > expected - 3 * spread)
    assert np.all(held / count < expected + 4 * spread)


def test_a_calibration_survives_json():
    works = networks(25)
    model = fit(works, [truth_s(w) for w in works], X86, fingerprint="test")
    again = CalibratedLatency.from_json(json.loads(json.dumps(model.to_json())))
    assert again == model
    assert again.predict(works[0]) == model.predict(works[0])


@pytest.mark.parametrize(
    ("left", "added", "says"),
    [
        (len(PARTS) - 1, (), f"got 1 that differ: {PARTS[-1]}; calibrate again"),
        (len(PARTS), ("more", "other"), "got 2 that differ: more, other; calibrate again"),
        (0, ("aaa",), f"got {len(PARTS) + 1} that differ: aaa, "),
        (0, (), f" and {len(PARTS) - 3} more; calibrate again"),
    ],
)
def test_a_calibration_of_other_parts_is_refused_with_at_most_three_of_them(left, added, says):
    works = networks(25)
    data = fit(works, [truth_s(w) for w in works], X86, fingerprint="test").to_json()
    data["factors"] = dict.fromkeys((*PARTS[:left], *added), 1.0)
    with pytest.raises(CalibrationError) as raised:
        CalibratedLatency.from_json(data)
    assert says in str(raised.value)
    assert len(set(PARTS) & set(re.findall(r"\w+", str(raised.value)))) <= 3


def test_parts_of_recurrent_layers_that_a_file_has_none_of_have_the_presets_factor():
    works = networks(25)
    model = fit(works, [truth_s(w) for w in works], X86, fingerprint="test")
    data = model.to_json()
    data["factors"] = {n: f for n, f in data["factors"].items() if n not in STEP_PARTS}
    known = model.factors[: -len(STEP_PARTS)]
    assert CalibratedLatency.from_json(data).factors == (*known, *(1.0,) * len(STEP_PARTS))


@pytest.mark.parametrize(
    ("count", "times", "rule"),
    [(4, [1.0] * 4, "at least 5"), (20, [1.0] * 19, "one latency"), (20, [0.0] * 20, "above")],
)
def test_measurements_that_cannot_be_fitted_are_refused(count, times, rule):
    with pytest.raises(CalibrationError, match=rule):
        fit(networks(count), times, X86, fingerprint="test")
