"""What every latency model keeps, whoever made it."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.latency.calibrated import CalibrationError, fit
from paredown.hardware_models.latency.calibration_file import (
    check_target,
    model_from_json,
    read_calibration,
    write_calibration,
)
from paredown.hardware_models.latency.learned import fit_learned
from paredown.hardware_models.latency.measured import start_measuring
from paredown.hardware_models.latency.models import LatencyModel, RooflineLatency
from paredown.hardware_models.latency.table import (
    PRODUCTS,
    TableEntry,
    fit_table,
    naive_table,
    signature,
)
from paredown.hardware_models.timing.measure import Measured
from paredown.hardware_models.work.features import Preset
from paredown.hardware_models.work.workload import OperatorWork, Work

X86 = load_device("x86-avx512-vnni-ort")
KINDS = ("roofline", "calibrated", "calibrated-few", "learned", "table", "measured")
STORED = tuple(kind for kind in KINDS if kind != "measured")


def random_work(random: np.random.Generator) -> Work:
    """Six convolutions of random width and precision, with edges between precisions."""
    operators: list[OperatorWork] = []
    for index in range(6):
        channels = 16 * int(random.integers(1, 5))
        integer = bool(random.integers(2))
        conv = OperatorWork(
            name=f"conv{index}",
            kind="conv",
            weight=f"w{index}",
            macs=channels * channels * 9 * 256,
            integer=integer,
            onnx_type="int8" if integer else "float32",
            in_channels=channels,
            out_channels=channels,
            kernel_size=(3, 3),
            stride=(1, 1),
            input_elements=channels * 256,
            output_elements=channels * 256,
            weight_count=channels * channels * 9,
            out_spatial=256,
            sources=(operators[-1].name,) if operators else (),
        )
        edge = OperatorWork(
            name=f"edge{index}", kind="quantize", output_elements=channels * 256,
            sources=(conv.name,),
        )  # fmt: skip
        operators += [conv, edge]
    stand_in: Any = object()  # only a measuring model's exporter looks at a blueprint
    return Work(operators=tuple(operators), blueprint=stand_in)


def works_of(count: int, seed: int = 0) -> list[Work]:
    random = np.random.default_rng(seed)
    return [random_work(random) for _ in range(count)]


def truth_s(work: Work) -> float:
    """A machine of its own: other factors than the preset, and a bend that no sum has."""
    factors = {"conv_macs": 1.6, "int8_conv_macs": 2.4, "quantize_calls": 0.4}
    parts = Preset(X86).total_s(work)
    total = sum(factors.get(name, 1.2) * value for name, value in parts.items())
    share = parts["int8_conv_macs"] / sum(parts.values())
    return total * (1 + 0.3 * math.sin(4 * share))


def export(work: Work) -> bytes:
    return repr(work.operators).encode()


@dataclass
class Clock:
    """A timer whose seconds drift: every call finds the machine slower than the last."""

    works: Sequence[Work]
    calls: int = 0

    def __call__(self, models: Sequence[bytes], threads: int) -> list[Measured]:
        self.calls += 1
        drift = 1 + 0.2 * self.calls
        known = {hashlib.blake2b(export(w)).digest(): w for w in self.works}
        times = [truth_s(known[hashlib.blake2b(m).digest()]) * drift for m in models]
        return [Measured(mean_s=t, min_s=t, max_s=t, instances=1) for t in times]


@pytest.fixture(scope="module")
def works() -> list[Work]:
    return works_of(120)


@pytest.fixture(scope="module")
def fresh() -> list[Work]:
    return works_of(30, seed=1)


@pytest.fixture(scope="module")
def fitted(works):
    """Every model but the measuring one, which remembers, is fitted once."""
    preset = RooflineLatency(X86)
    times = [truth_s(w) for w in works]

    @functools.cache
    def build(kind: str) -> LatencyModel:
        if kind == "roofline":
            return preset
        if kind == "calibrated-few":
            return fit(works[:8], times[:8], X86, fingerprint="test")
        if kind == "table":
            return fit_table(naive_table(preset, entries(works), "test"), works[:25], times[:25])
        if kind == "calibrated":
            return fit(works, times, X86, fingerprint="test")
        return fit_learned(works, times, build("calibrated"))

    return build


@pytest.fixture
def make(fitted, works, fresh, tmp_path):
    def build(kind: str) -> LatencyModel:
        if kind != "measured":
            return fitted(kind)
        timer = Clock([*works, *fresh])
        return start_measuring(export, works[0], works[1:25], tmp_path / "cache", timer=timer)

    return build


def entries(works: Sequence[Work]) -> list[TableEntry]:
    preset = RooflineLatency(X86)
    found = {}
    for work in works:
        for op, seconds in zip(work.operators, preset.operators_s(work), strict=True):
            if op.kind in PRODUCTS:
                mark = signature(op)
                found[mark] = TableEntry(
                    signature=mark, seconds=1.5 * float(seconds), preset_s=float(seconds)
                )
    return list(found.values())


@pytest.mark.parametrize("kind", KINDS)
def test_an_estimate_lies_in_its_interval_and_names_its_source(kind, make, fresh):
    model = make(kind)
    for work in fresh:
        estimate = model.predict(work)
        assert 0 <= estimate.low_s < estimate.value_s < estimate.high_s < math.inf
        assert estimate.source == model.source
        assert (estimate.held_out_mape is None) == (kind == "roofline")


@pytest.mark.parametrize("kind", KINDS)
def test_a_population_costs_what_its_members_do(kind, make, fresh):
    model = make(kind)
    together = model.predict_many(fresh)
    assert len(together) == len(fresh)
    for index, work in enumerate(fresh):
        alone = model.predict(work)
        assert together.value_s[index] == pytest.approx(alone.value_s, rel=1e-12)
        assert together[index].low_s == pytest.approx(alone.low_s, rel=1e-12)
        assert together[index].high_s == pytest.approx(alone.high_s, rel=1e-12)
    assert together.source == model.source


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_has_one_price(kind, make, fresh):
    model = make(kind)
    assert model.predict(fresh[0]) == model.predict(fresh[0])


@pytest.mark.parametrize("kind", ["roofline", "calibrated", "table"])
def test_additive_models_are_the_sum_of_their_operators(kind, make, fresh):
    model = make(kind)
    for work in fresh:
        total = model.run_s + model.operators_s(work).sum()
        assert total == pytest.approx(model.predict(work).value_s, rel=1e-12)


@pytest.mark.parametrize("kind", STORED)
def test_a_model_survives_json(kind, make, fresh, tmp_path):
    model = make(kind)
    path = tmp_path / "calibration.json"
    write_calibration(path, model, {"note": "kept"})
    again, report = read_calibration(path)
    assert report == {"note": "kept"}
    assert again.source == model.source
    assert again.predict_many(fresh).value_s.tolist() == model.predict_many(fresh).value_s.tolist()
    assert again.predict(fresh[0]) == model.predict(fresh[0])


@pytest.mark.parametrize("kind", KINDS)
def test_models_fitted_to_a_machine_order_its_networks(kind, make, fresh):
    predicted = make(kind).predict_many(fresh).value_s
    truth = np.array([truth_s(w) for w in fresh])
    pairs = [(i, j) for i in range(30) for j in range(30) if truth[i] > 1.5 * truth[j]]
    assert pairs
    assert np.mean([predicted[i] > predicted[j] for i, j in pairs]) > 0.9


def test_a_learned_correction_finds_what_a_sum_misses(make, fresh):
    truth = np.array([truth_s(w) for w in fresh])
    errors = {
        kind: np.abs(make(kind).predict_many(fresh).value_s / truth - 1).mean()
        for kind in ("calibrated", "learned")
    }
    assert errors["learned"] < 0.7 * errors["calibrated"]


def test_few_networks_take_the_interval_of_the_preset_and_say_so(make):
    few, many = make("calibrated-few"), make("calibrated")
    assert few.bounds.seconds == (X86.relative_error_95.value,) * 3
    assert "interval of the preset" in few.source
    assert "interval of the preset" not in many.source


def test_a_learned_model_needs_a_hundred_networks(works):
    times = [truth_s(w) for w in works]
    base = fit(works[:99], times[:99], X86, fingerprint="test")
    with pytest.raises(CalibrationError, match="at least 100"):
        fit_learned(works[:99], times[:99], base)


def test_a_calibration_of_another_target_is_refused(make):
    model = model_from_json(make("learned").to_json())
    check_target(model, X86, 1)
    with pytest.raises(CalibrationError, match="rpi4"):
        check_target(model, load_device("rpi4-a72-ort"), 1)
    with pytest.raises(CalibrationError, match="1 threads"):
        check_target(model, X86, 2)
