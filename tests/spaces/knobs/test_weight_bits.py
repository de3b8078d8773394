"""Widths of weights, and those that only save bytes."""

from __future__ import annotations

from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.devices.offered import capabilities
from paredown.spaces.candidates.candidate import LayerChoice
from paredown.spaces.knobs.weight_bits import WeightBitsKnob


def test_widths_without_a_kernel_save_bytes_only() -> None:
    offered = capabilities(load_device("x86-avx512-vnni-ort"))
    knob = WeightBitsKnob(name="b", targets=("a",), domain=(32, 8, 4, 2))
    assert knob.bytes_only(offered) == (4, 2)


def test_only_the_width_of_a_choice_changes() -> None:
    knob = WeightBitsKnob(name="b", targets=("a",), domain=(32, 8, 4))
    assert knob.changed(LayerChoice(method="gptq"), 4) == LayerChoice(weight_bits=4, method="gptq")
