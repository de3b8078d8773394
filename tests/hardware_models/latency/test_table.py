from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.latency.models import RooflineLatency
from paredown.hardware_models.latency.table import (
    Signature,
    TableEntry,
    fit_table,
    naive_table,
    signature,
)
from paredown.hardware_models.work.workload import OperatorWork, Work

X86 = load_device("x86-avx512-vnni-ort")
PRESET = RooflineLatency(X86)


def convolution(channels: int, into: int = 32) -> OperatorWork:
    return OperatorWork(
        name=f"c{channels}", kind="conv", weight=f"w{channels}", macs=256 * into * channels * 9,
        in_channels=into, out_channels=channels, kernel_size=(3, 3), stride=(1, 1),
        input_elements=into * 256, output_elements=channels * 256,
        weight_count=into * channels * 9, out_spatial=256,
    )  # fmt: skip


def entry(channels: int, seconds: float) -> TableEntry:
    return TableEntry(signature=marked(channels), seconds=seconds, preset_s=1e-5)


def marked(channels: int) -> Signature:
    return signature(convolution(channels))


def table(*entries: TableEntry):
    return naive_table(PRESET, entries, "test")


def test_an_operator_of_the_table_takes_what_was_measured():
    model = table(entry(32, 4e-5))
    assert model.look_up_s(marked(32), 9.0) == 4e-5
    work = Work(operators=(convolution(32),))
    assert model.predict(work).value_s == pytest.approx(4e-5 + PRESET.run_s)


def test_inside_a_step_the_table_interpolates():
    # 20 and 28 pad to the same 32 channels, and so does 24.
    model = table(entry(20, 2e-5), entry(28, 3e-5))
    assert model.look_up_s(marked(24), 9.0) == pytest.approx((2e-5 * 3e-5) ** 0.5)


@given(st.integers(1, 128), st.floats(1e-7, 1e-2))
def test_a_step_never_answers_for_another(channels, seconds):
    # Seconds of the 32-channel step must not show in any other, however they differ.
    model = table(entry(32, seconds), entry(28, seconds))
    other = table(entry(32, 2 * seconds), entry(28, 2 * seconds))
    same_step = 16 < channels <= 32 and channels % 4 == 0
    found = [m.look_up_s(marked(channels), 1e-5) for m in (model, other)]
    if same_step:
        assert found == pytest.approx([seconds, 2 * seconds])
    else:
        # The preset, scaled by how the table compares with it on this kind of operator.
        assert found == pytest.approx([seconds, 2 * seconds])
        preset_s = 3e-5
        assert model.look_up_s(marked(channels), preset_s) == pytest.approx(3 * seconds)


def test_odd_channels_do_not_answer_for_aligned_ones():
    model = table(entry(31, 9e-5), entry(64, 1e-5))
    assert model.look_up_s(marked(32), 1e-5) == pytest.approx((9.0 * 1.0) ** 0.5 * 1e-5)


def test_an_empty_table_is_the_preset():
    work = Work(operators=(convolution(32), replace(convolution(64), name="second")))
    assert table().predict(work).value_s == pytest.approx(PRESET.predict(work).value_s)


def test_two_factors_of_a_machine_are_found():
    random = np.random.default_rng(0)
    entries = [entry(c, c * 1e-6) for c in (16, 32, 48, 64)]
    works = []
    for _ in range(25):
        products = [convolution(int(random.choice([16, 32, 48, 64]))) for _ in range(4)]
        edges = [OperatorWork(name="e", kind="quantize", output_elements=10**5)] * int(
            random.integers(1, 9)
        )
        works.append(Work(operators=(*products, *edges)))
    naive = table(*entries)
    times = []
    for work in works:
        table_s, rest_s = naive.split_s(work)
        times.append(2.0 * table_s.sum() + 0.5 * (rest_s.sum() + PRESET.run_s))
    fitted = fit_table(naive, works, times)
    assert fitted.table_factor == pytest.approx(2.0)
    assert fitted.rest_factor == pytest.approx(0.5)
    assert fitted.held_out_mape == pytest.approx(0.0, abs=1e-9)
