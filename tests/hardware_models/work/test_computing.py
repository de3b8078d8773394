"""Seconds of computing: multiply-accumulates over the rate of the kernel that runs them."""

from dataclasses import replace

import pytest

from paredown.hardware_models.devices import load_device
from paredown.hardware_models.work import OperatorWork
from paredown.hardware_models.work.computing import computing_s

X86 = load_device("x86-avx512-vnni-ort")
CONV = OperatorWork(
    name="c",
    kind="conv",
    macs=64 * 64 * 9 * 256,
    in_channels=64,
    out_channels=64,
    kernel_size=(3, 3),
    out_spatial=256,
    weight_count=64 * 64 * 9,
    output_elements=64 * 256,
)


def test_a_convolution_of_whole_blocks_takes_its_macs_over_the_rate() -> None:
    assert computing_s(CONV, X86, False) == {
        "conv_macs": pytest.approx(CONV.macs / X86.float32.conv_macs_per_s.value)
    }


def test_channels_that_fit_no_block_take_the_slow_kernel() -> None:
    odd = replace(CONV, in_channels=63, macs=CONV.macs // 64 * 63)
    assert computing_s(odd, X86, False) == {
        "misaligned_macs": pytest.approx(odd.macs / X86.float32.misaligned_macs_per_s.value),
        "im2col": pytest.approx(256 * 9 * 63 / X86.float32.im2col_elements_per_s.value),
    }


def test_outputs_that_fit_no_block_cost_a_whole_one() -> None:
    odd = replace(CONV, out_channels=63, macs=CONV.macs // 64 * 63)
    assert computing_s(odd, X86, False) == pytest.approx(computing_s(CONV, X86, False))


def test_a_linear_layer_on_codes_has_the_rate_of_codes() -> None:
    linear = OperatorWork(name="l", kind="linear", macs=4096, weight_count=4096, integer=True)
    assert computing_s(linear, X86, False) == {
        "int8_linear_macs": pytest.approx(4096 / X86.int8.linear_macs_per_s.value)
    }
