from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from paredown.hardware_models.memory import (
    ALIGNMENT_BYTES,
    Lifetime,
    live_bytes,
    peak_activation_bytes,
    planned_bytes,
)
from paredown.spaces.capture import capture

BUFFERS = st.lists(
    st.builds(
        lambda size, first, length: Lifetime(
            size_bytes=size * ALIGNMENT_BYTES, first=first, last=first + length
        ),
        st.integers(1, 8),
        st.integers(0, 5),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=5,
)


def best_plan_bytes(buffers: list[Lifetime]) -> int:
    """The smallest arena: the best of first fit over all orders, one of which is optimal."""
    best = 10**9
    for order in itertools.permutations(buffers):
        placed: list[tuple[int, Lifetime]] = []
        for buffer in order:
            offset = 0
            while any(
                other.first <= buffer.last
                and buffer.first <= other.last
                and at < offset + buffer.size_bytes
                and offset < at + other.size_bytes
                for at, other in placed
            ):
                offset += ALIGNMENT_BYTES
            placed.append((offset, buffer))
        best = min(best, max(at + b.size_bytes for at, b in placed))
    return best


@settings(max_examples=60, deadline=None, derandomize=True)
@given(BUFFERS)
def test_the_plan_is_between_the_best_one_and_the_sum(buffers):
    best = best_plan_bytes(buffers)
    assert live_bytes(buffers) <= best <= planned_bytes(buffers)
    assert planned_bytes(buffers) <= 1.5 * best


@settings(max_examples=60, deadline=None, derandomize=True)
@given(BUFFERS)
def test_the_lower_bound_is_the_largest_sum_over_all_steps(buffers):
    sums = [sum(b.size_bytes for b in buffers if b.first <= t <= b.last) for t in range(10)]
    assert live_bytes(buffers) == max(sums)


def test_buffers_that_never_meet_share_their_bytes():
    assert planned_bytes([Lifetime(size_bytes=100, first=i, last=i) for i in range(5)]) == 128


class Chain(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Conv2d(4, 8, 3, padding=1)
        self.two = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x):
        return self.two(torch.relu(self.one(x)))


def test_a_chain_needs_its_widest_pair(blueprint_of):
    captured = capture(Chain(), torch.zeros(1, 4, 8, 8))
    # Input 4 x 64 floats, hidden 8 x 64 (relu in place), output 4 x 64.
    assert peak_activation_bytes(blueprint_of(captured)).lower_bound_bytes == 4 * 64 * (4 + 8)


def test_a_residual_keeps_its_shortcut_alive(residual_chain, blueprint_of):
    blueprint = blueprint_of(residual_chain(2, 16))
    block = 16 * 16 * 16 * 4
    # In conv1 and conv2: shortcut, input of the operator, output of the operator.
    assert peak_activation_bytes(blueprint).lower_bound_bytes == 3 * block
    assert peak_activation_bytes(blueprint).planned_bytes == 3 * block


def test_codes_take_a_quarter_of_floats(captured, blueprint_of, with_codes):
    coded = with_codes(blueprint_of(captured, bits=8, onnx_type="int8"))
    block = 16 * 16 * 16
    # At the second layer of the block: shortcut, input and output.
    assert peak_activation_bytes(blueprint_of(captured)).lower_bound_bytes == 3 * block * 4
    assert peak_activation_bytes(coded).lower_bound_bytes == 3 * block


def test_a_float_layer_among_codes_needs_a_float_copy_of_its_input(
    captured, blueprint_of, with_codes
):
    coded = with_codes(blueprint_of(captured, bits=8, onnx_type="int8"))
    narrow = blueprint_of(captured, bits=4, onnx_type="int4")
    down = "down.weight"
    mixed = replace(coded, storage={**coded.storage, down: narrow.storage[down]})
    block, half = 16 * 16 * 16, 32 * 8 * 8
    # Codes of the input, their float copy, and the float output of `down`.
    assert peak_activation_bytes(mixed).lower_bound_bytes == block + 4 * block + 4 * half


def test_the_callers_input_is_never_written_over(blueprint_of):
    captured = capture(nn.ReLU(), torch.zeros(1, 100))
    assert peak_activation_bytes(blueprint_of(captured)).lower_bound_bytes == 800


def test_pieces_of_a_split_are_copies_and_its_source_stays(blueprint_of):
    class Split(nn.Module):
        def forward(self, x):
            first, second = (x + 1).chunk(2, 1)
            return first * second

    captured = capture(Split(), torch.zeros(1, 64))
    # x, x + 1, both halves while the second is copied; the product overwrites a half.
    assert peak_activation_bytes(blueprint_of(captured)).lower_bound_bytes == 256 + 256 + 256 - 256


@pytest.mark.parametrize("width", [16, 32])
def test_narrower_networks_need_less(width, residual_chain, blueprint_of):
    narrow = peak_activation_bytes(blueprint_of(residual_chain(2, width)))
    wide = peak_activation_bytes(blueprint_of(residual_chain(2, 2 * width)))
    assert narrow.planned_bytes < wide.planned_bytes
