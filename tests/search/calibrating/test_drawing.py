"""Networks drawn for timing are many, different and the same again."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.devices.offered import capabilities
from paredown.search.calibrating.drawing import family_networks, imagine, uniform
from paredown.search.config.schema_space import LayerRule, SegmentRule, SpaceSection
from paredown.search.space.space_rules import build_space
from paredown.spaces.candidates.candidate import SegmentChoice
from paredown.spaces.candidates.drafting import draft
from paredown.spaces.capture.capturing import capture
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.space import Space
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


class Listening(nn.Module):
    """A recurrent layer, its last state read by a linear layer."""

    def __init__(self, kind: type[nn.LSTM | nn.GRU]) -> None:
        super().__init__()
        self.recurrent, self.head = kind(16, 32, batch_first=True), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.recurrent(x)[0][:, -1])


def uniform_ranges(module: nn.Module, x: Tensor, ranges: tuple[str, ...]) -> dict[str, str]:
    """By layer, the ranges of the codes that it reads in the uniform 8-bit model; "" for floats."""
    rules = (
        LayerRule(layers=("*",), weight_bits=(4, 8, 32)),
        SegmentRule(segments=("*",), activation_bits=(8, 32), ranges=ranges),
    )
    maps = {"": read_model_map(capture(module.eval(), x))}
    goals = ("latency_s", "packed_bytes")
    space = build_space(SpaceSection(rules=rules), maps, capabilities(X86), goals)
    blueprint = draft(maps[""], uniform(space, "", 8))
    return {o.layer: o.ranges if o.activation_bits == 8 else "" for o in blueprint.operators}


def test_a_segment_without_layers_that_find_ranges_stays_float_beside_those() -> None:
    module = nn.Sequential(nn.Embedding(7, 16), nn.LayerNorm(16), nn.Linear(16, 4))
    tokens = torch.zeros(1, 5, dtype=torch.int64)
    assert uniform_ranges(module, tokens, ("dynamic",)) == {"0": "", "2": "dynamic"}


def test_uniform_8_bits_take_the_only_ranges_that_rules_offer() -> None:
    module, x = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)), torch.zeros(1, 16)
    assert set(uniform_ranges(module, x, ("dynamic",)).values()) == {"dynamic"}
    for ranges in (("static",), ("static", "dynamic")):
        assert set(uniform_ranges(module, x, ranges).values()) == {"static"}


def test_uniform_8_bits_run_an_lstm_on_codes_where_rules_offer_the_only_way_to() -> None:
    x = torch.zeros(1, 6, 16)
    found = uniform_ranges(Listening(nn.LSTM), x, ("static", "dynamic"))
    lstm = {"recurrent.weight_ih_l0": "dynamic", "recurrent.weight_hh_l0": "dynamic"}
    assert found == lstm | {"head": "static"}
    assert uniform_ranges(Listening(nn.LSTM), x, ("dynamic",)) == lstm | {"head": "dynamic"}
    assert uniform_ranges(Listening(nn.LSTM), x, ("static",))["head"] == "static"
    # No kernel runs the steps of a GRU on codes, so nothing is gained by dynamic ranges.
    assert uniform_ranges(Listening(nn.GRU), x, ("static", "dynamic"))["head"] == "static"


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


def test_imagined_weights_hold_every_code_of_their_width(mapped):
    model_map = mapped("lenet")
    space = Space(architectures=(Architecture(name="", model_map=model_map, knobs=()),))
    for bits, wanted in ((1, {-1, 1}), (2, {-1, 0, 1}), (3, set(range(-3, 4)))):
        model = imagine(draft(model_map, uniform(space, "", bits)), seed=0)
        codes = [tensor.values for tensor in model.stored.values() if tensor.storage.bits == bits]
        assert len(codes) == len(model_map.layers)
        assert {int(code) for each in codes for code in each.unique()} == wanted
