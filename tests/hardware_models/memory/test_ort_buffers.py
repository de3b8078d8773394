"""Predicted buffers against ONNX Runtime's own memory counters."""

from __future__ import annotations

import statistics

import pytest
import torch
from torch import nn

from paredown.compressors.onnx.lowering import lower
from paredown.hardware_models.devices.device import DeviceError, host_device
from paredown.hardware_models.memory.lifetimes import live_bytes
from paredown.hardware_models.memory.measured_memory import measure_memory
from paredown.hardware_models.memory.ort_buffers import ort_lifetimes
from paredown.search.calibrating.drawing import imagine
from paredown.spaces.candidates.candidate import Candidate, LayerChoice, SegmentChoice
from paredown.spaces.candidates.drafting import draft
from paredown.spaces.capture.capturing import capture
from paredown.spaces.structure.reading import read_model_map

EXACT = ("lenet", "vgg", "resnet_a", "resnet_projection", "resnet20", "mobilenet_v2", "densenet")


@pytest.fixture(scope="module")
def block():
    try:
        return host_device().memory.float_block_channels
    except DeviceError:
        pytest.skip("no preset describes this machine, so its layout is not known")


def error_of(blueprint, block):
    counted = measure_memory(lower(imagine(blueprint, 0)).SerializeToString()).peak_bytes
    return live_bytes(ort_lifetimes(blueprint, block)) / counted - 1


@pytest.mark.parametrize("name", EXACT)
def test_float_networks_are_predicted_to_the_byte(name, mapped, block):
    assert error_of(draft(mapped(name), Candidate()), block) == 0


@pytest.mark.parametrize("name", EXACT)
def test_integer_networks_are_predicted_to_the_byte(name, mapped, block):
    model_map = mapped(name)
    candidate = Candidate.of(
        layers={layer.name: LayerChoice(weight_bits=8) for layer in model_map.layers},
        segments={s.name: SegmentChoice(activation_bits=8) for s in model_map.segments},
    )
    assert error_of(draft(model_map, candidate), block) == 0


def test_random_candidates_err_by_less_than_15_percent_in_the_median(
    mapped, random_candidate, block
):
    drawn = [(name, seed) for name in EXACT for seed in range(3)]
    errors = [
        abs(error_of(draft(mapped(n), random_candidate(mapped(n), s, None)), block))
        for n, s in drawn
    ]
    assert statistics.median(errors) <= 0.15


def test_blocks_pad_channels_and_plain_floats_do_not(blueprint_of):
    net = nn.Sequential(nn.Conv2d(3, 20, 3, padding=1), nn.ReLU(), nn.Conv2d(20, 20, 3, padding=1))
    blueprint = blueprint_of(capture(net, torch.zeros(1, 3, 8, 8)))
    image, pixels = 4 * 3 * 64, 4 * 64
    # Blocked: 20 channels take 32, twice, and the output is copied out of its blocks.
    assert live_bytes(ort_lifetimes(blueprint, 16)) == image + 2 * 32 * pixels
    assert live_bytes(ort_lifetimes(blueprint, 1)) == image + 2 * 20 * pixels


class Shared(nn.Module):
    """Two layers that read one value, and two that read their own."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(64, 256), nn.Linear(64, 256)
        self.c, self.d = nn.Linear(256, 64), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.d(torch.relu(self.c(torch.relu(self.a(x)) * torch.sigmoid(self.b(x)))))


def test_layers_that_find_their_ranges_are_predicted_to_the_byte(block):
    model_map = read_model_map(capture(Shared(), torch.randn(1, 40, 64)))
    dynamic = SegmentChoice(activation_bits=8, ranges="dynamic")
    candidate = Candidate.of(
        layers={layer.name: LayerChoice(weight_bits=8) for layer in model_map.layers},
        segments={s.name: dynamic for s in model_map.segments},
    )
    assert error_of(draft(model_map, candidate), block) == 0


@pytest.mark.parametrize("causal", [False, True])
def test_attention_holds_its_weights_and_its_values(causal, block):
    class Attention(nn.Module):
        def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)

    example = tuple(torch.randn(1, 2, 48, 8) for _ in range(3))
    model_map = read_model_map(capture(Attention(), example))
    assert error_of(draft(model_map, Candidate()), block) == 0
