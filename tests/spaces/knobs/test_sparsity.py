"""Zeros as values of a knob."""

from __future__ import annotations

from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.devices.offered import capabilities
from paredown.spaces.candidates.zeros import Zeros
from paredown.spaces.knobs.sparsity import SparsityKnob


def test_zeros_save_bytes_only_where_the_device_skips_none() -> None:
    knob = SparsityKnob(name="s", targets=("a",), domain=(Zeros(), Zeros(0.5, "2:4")))
    assert knob.bytes_only(capabilities(load_device("x86-avx512-vnni-ort"))) == knob.domain
    assert knob.bytes_only(capabilities(load_device("h100-sxm-trt"))) == ()


def test_zeros_read_as_their_share_and_pattern() -> None:
    knob = SparsityKnob(name="s", targets=("a",), domain=(Zeros(), Zeros(0.75, "block")))
    assert knob.domain_text == "none, 75% block"
