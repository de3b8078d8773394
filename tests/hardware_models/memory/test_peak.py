from __future__ import annotations

import pytest
import torch
from torch import nn

from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.memory.lifetimes import live_bytes
from paredown.hardware_models.memory.ort_buffers import ort_lifetimes
from paredown.hardware_models.memory.peak import peak_activation_bytes
from paredown.spaces.capture.capturing import capture


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


def test_a_layer_without_an_integer_kernel_needs_a_float_copy_of_its_codes(
    blueprint_of, with_codes
):
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 8, 2, stride=2),
        nn.ReLU(),
        nn.Conv2d(8, 4, 2, stride=2),
    )
    captured = capture(net, torch.zeros(1, 3, 16, 16))
    coded = with_codes(blueprint_of(captured, bits=8, onnx_type="int8"))
    block, twice = 16 * 16 * 16, 8 * 32 * 32
    # Codes of the transposed convolution's input, their float copy, and its float output.
    assert peak_activation_bytes(coded).lower_bound_bytes == block + 4 * block + 4 * twice


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


def test_a_device_under_onnx_runtime_counts_its_own_copies(captured, blueprint_of):
    blueprint = blueprint_of(captured)
    plain = peak_activation_bytes(blueprint)
    assert peak_activation_bytes(blueprint, load_device("stm32h743-tinyengine")) == plain
    device = load_device("x86-avx512-vnni-ort")
    found = peak_activation_bytes(blueprint, device)
    assert found.planned_bytes == live_bytes(ort_lifetimes(blueprint, 16))
