"""A preset at the speed of the machine at hand, from one measured network or a few."""

from __future__ import annotations

import json

import pytest

from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.latency.anchored import AnchoredLatency, anchor
from paredown.hardware_models.latency.models import LatencyError, RooflineLatency
from paredown.hardware_models.work.workload import OperatorWork, Work, read_work

X86 = load_device("x86-avx512-vnni-ort")


def convolution(channels: int, integer: bool = False, side: int = 16) -> OperatorWork:
    elements = channels * side * side
    return OperatorWork(
        name="conv",
        kind="conv",
        layer="conv",
        weight="conv.weight",
        macs=elements * channels * 9,
        weight_bits=8 if integer else 32,
        activation_bits=8 if integer else 32,
        onnx_type="int8" if integer else "float32",
        integer=integer,
        in_channels=channels,
        out_channels=channels,
        kernel_size=(3, 3),
        stride=(1, 1),
        input_elements=elements,
        output_elements=elements,
        weight_count=channels * channels * 9,
        out_spatial=side * side,
    )


def test_an_anchored_preset_gives_back_what_was_measured(captured, blueprint_of):
    work = read_work(blueprint_of(captured))
    preset = RooflineLatency(X86)
    guess = preset.predict(work)
    model = anchor(preset, [work], [3 * guess.value_s], "test")
    estimate = model.predict(work)
    assert estimate.value_s == pytest.approx(3 * guess.value_s)
    assert estimate.high_s / estimate.low_s < guess.high_s / guess.low_s


def test_anchoring_to_two_networks_takes_the_geometric_mean():
    works = [Work(operators=(convolution(c),)) for c in (16, 64)]
    preset = RooflineLatency(X86)
    times = [f * preset.predict(w).value_s for f, w in zip((2.0, 8.0), works, strict=True)]
    assert anchor(preset, works, times, "test").factor == pytest.approx(4.0)


@pytest.mark.parametrize("times", [[], [0.0], [1.0, 1.0]])
def test_a_preset_is_not_anchored_to_nothing(times):
    with pytest.raises(LatencyError, match="above zero per network"):
        anchor(RooflineLatency(X86), [Work(operators=(convolution(16),))], times, "test")


def test_an_anchored_model_is_the_preset_times_its_factor_and_survives_json():
    preset = RooflineLatency(X86)
    works = [Work(operators=(convolution(c),)) for c in (16, 32, 64)]
    model = AnchoredLatency(preset=preset, factor=2.5, fingerprint="here")
    assert model.predict_many(works).value_s == pytest.approx(
        2.5 * preset.predict_many(works).value_s
    )
    assert model.run_s == 2.5 * preset.run_s
    again = AnchoredLatency.from_json(json.loads(json.dumps(model.to_json())))
    assert again == model
    assert "2.5 on here" in model.source


def test_the_factor_cancels_in_a_ratio():
    preset = RooflineLatency(X86)
    work, base = (Work(operators=(convolution(c),)) for c in (16, 64))
    slow, fast = (
        AnchoredLatency(preset=preset, factor=f, fingerprint="").predict_ratio(work, base)
        for f in (0.5, 50.0)
    )
    assert slow.value == pytest.approx(fast.value)
    expected = preset.predict(work).value_s / preset.predict(base).value_s
    assert slow.value == pytest.approx(expected)
    assert slow.low < slow.value < slow.high
