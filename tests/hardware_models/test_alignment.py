from __future__ import annotations

from dataclasses import replace

import pytest

from paredown.hardware_models.alignment import (
    blocked_operators,
    ceil_to,
    is_aligned,
    padded_macs,
)
from paredown.hardware_models.device import load_device
from paredown.hardware_models.workload import OperatorWork, Work

X86 = load_device("x86-avx512-vnni-ort")


def convolution(into: int, out: int, **changes) -> OperatorWork:
    facts = {
        "name": "c", "kind": "conv", "in_channels": into, "out_channels": out,
        "kernel_size": (3, 3), "macs": 9 * into * out * 64,
    }  # fmt: skip
    return OperatorWork(**{**facts, **changes})


@pytest.mark.parametrize(("count", "expected"), [(1, 16), (16, 16), (17, 32), (0, 0)])
def test_counts_are_rounded_up_to_blocks(count, expected):
    assert ceil_to(count, 16) == expected


@pytest.mark.parametrize(
    ("into", "out", "padded"), [(16, 16, (16, 16)), (20, 24, (32, 32)), (3, 20, (3, 32))]
)
def test_float_convolutions_pad_both_sides_but_the_first_layer(into, out, padded):
    expected = 9 * 64 * padded[0] * padded[1]
    assert padded_macs(convolution(into, out), X86) == pytest.approx(expected)


def test_weights_that_are_no_constants_have_no_fast_layout():
    assert is_aligned(convolution(16, 16), X86)
    narrow = convolution(16, 16, onnx_type="int4")
    assert is_aligned(narrow, X86)  # a float constant once the model is loaded
    assert not is_aligned(narrow, load_device("stm32h743-cmsis-nn"))
    assert not is_aligned(convolution(16, 18), X86)
    assert not is_aligned(convolution(16, 16, kind="conv_transpose"), X86)


def test_an_addition_keeps_the_layout_of_what_it_adds():
    conv = convolution(16, 16)
    add = OperatorWork(name="a", kind="add", sources=("c", "x"))
    norm = OperatorWork(name="n", kind="norm", sources=("a",))
    assert blocked_operators(Work(operators=(conv, add, norm)), X86) == {"c", "a"}
    integer = replace(conv, integer=True, onnx_type="int8")
    assert blocked_operators(Work(operators=(integer, add, norm)), X86) == frozenset()
