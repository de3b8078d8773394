from __future__ import annotations

import numpy as np
import pytest

from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.latency.calibrated import CalibratedLatency
from paredown.hardware_models.latency.learned import LearnedLatency, fit_best
from paredown.hardware_models.latency.models import parts_matrix_s
from paredown.hardware_models.work.features import PARTS, Preset
from paredown.hardware_models.work.workload import OperatorWork, Work

X86 = load_device("x86-avx512-vnni-ort")


def works_of(count: int, seed: int) -> list[Work]:
    random = np.random.default_rng(seed)
    return [
        Work(
            operators=tuple(
                OperatorWork(
                    name=f"c{index}", kind="conv", integer=bool(random.integers(2)),
                    macs=int(c) ** 2 * 9 * 256, in_channels=int(c), out_channels=int(c),
                    kernel_size=(3, 3), input_elements=int(c) * 256,
                    output_elements=int(c) * 256, weight_count=int(c) ** 2 * 9, out_spatial=256,
                )
                for index, c in enumerate(16 * random.integers(1, 6, 5))
            )
        )
        for _ in range(count)
    ]  # fmt: skip


def times_of(works, bend: float, seed: int = 3) -> list[float]:
    parts = parts_matrix_s(works, Preset(X86))
    total = parts.sum(1)
    noise = np.random.default_rng(seed).normal(1, 0.01, len(works))
    return list(
        total * (1 + bend * np.cos(6 * parts[:, PARTS.index("int8_conv_macs")] / total)) * noise
    )


def test_a_bent_machine_gets_the_correction_and_a_straight_one_does_not_lose():
    works, fresh = works_of(120, 0), works_of(40, 1)
    bent = fit_best(works, times_of(works, 0.3), X86, fingerprint="test")
    assert isinstance(bent, LearnedLatency)
    truth = np.array(times_of(fresh, 0.3, seed=4))
    errors = np.abs(bent.predict_many(fresh).value_s / truth - 1)
    assert errors.mean() < 0.03
    # What it said of itself before it saw these.
    assert errors.mean() < 1.5 * bent.held_out_mape
    straight = fit_best(works, times_of(works, 0.0), X86, fingerprint="test")
    truth = np.array(times_of(fresh, 0.0, seed=4))
    assert np.abs(straight.predict_many(fresh).value_s / truth - 1).mean() < 0.02


def test_below_a_hundred_networks_nothing_is_learned():
    works = works_of(60, 0)
    found = fit_best(works, times_of(works, 0.3), X86, fingerprint="test")
    assert isinstance(found, CalibratedLatency)


def test_far_from_all_networks_the_correction_fades_to_its_mean():
    works = works_of(110, 0)
    model = fit_best(works, times_of(works, 0.3), X86, fingerprint="test")
    assert isinstance(model, LearnedLatency)
    far = np.full((1, len(model.process.centre)), 1e3) * np.where(
        np.isfinite(model.process.scale), 1.0, 0.0
    )
    assert model.process.correction(far)[0] == pytest.approx(model.process.mean)
