"""Networks drawn for timing are many, different and the same again."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.devices.offered import capabilities
from paredown.search.calibrating.drawing import family_networks, uniform
from paredown.search.config.schema_space import SpaceSection
from paredown.search.space.space_rules import build_space
from paredown.spaces.candidates.candidate import SegmentChoice
from paredown.spaces.capture.capturing import capture
from paredown.spaces.structure.reading import read_model_map

X86 = load_device("x86-avx512-vnni-ort")


@pytest.fixture(scope="module")
def networks():
    return family_networks(("mlp",), 20, X86, lambda text: None)


def test_networks_of_a_family_are_many_and_reproducible(networks):
    assert len(networks) == 20
    assert len({n.model for n in networks}) == 20
    assert sorted({n.group for n in networks}) == [0, 1, 2, 3, 4]
    again = family_networks(("mlp",), 4, X86, lambda text: None)
    assert [n.model for n in again] == [n.model for n in networks[:4]]


class Words(nn.Module):
    """A table, whose segment reads no codes, and two layers behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.body = nn.Embedding(40, 16), nn.Linear(16, 32)
        self.head = nn.Linear(32, 16)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.body(self.words(ids))))


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [(["dynamic"], {"dynamic"}), (["static"], {"static"}), (["static", "dynamic"], {"static"})],
)
def test_uniform_eight_bits_take_ranges_that_the_space_offers(ranges, expected):
    model_map = read_model_map(capture(Words(), torch.zeros(1, 6, dtype=torch.int64)))
    rules = [
        {"layers": "*", "weight_bits": [8, 32]},
        {"segments": "*", "activation_bits": [8, 32], "ranges": ranges},
    ]
    section = SpaceSection.model_validate({"rules": rules})
    space = build_space(section, {"": model_map}, capabilities(X86), ("latency_s", "onnx_bytes"))
    segments = dict(uniform(space, "", 8).segments)
    assert {choice.ranges for choice in segments.values()} == expected
    assert all(choice.activation_bits == 8 for choice in segments.values())
    if expected == {"static"}:
        static = SegmentChoice(activation_bits=8)
        assert segments == {segment.name: static for segment in model_map.segments}
    assert not uniform(space, "", 4).segments
