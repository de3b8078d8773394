"""What every kind of knob must do: the contract, for each class of the room."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from paredown.spaces import knobs
from paredown.spaces.candidates.candidate import Candidate, SegmentChoice, Setting
from paredown.spaces.candidates.ranks import Rank
from paredown.spaces.candidates.zeros import Zeros
from paredown.spaces.knobs import Architecture, Knob, LayerKnob, Space

DOMAINS = {
    "weight_bits": (32, 8, 4),
    "sparsity": (Zeros(), Zeros(0.5, "element"), Zeros(0.5, "2:4")),
    "rank_fraction": (Rank(), Rank(0.5), Rank(0.25, "tucker", 0.5)),
    "method": ("gptq", "rtn"),
    "group_size": (0, 32),
    "segment": (SegmentChoice(), SegmentChoice(activation_bits=8)),
    "drop": (False, True),
    "architecture": ("", "other"),
}
KINDS = [
    kind
    for name in knobs.__all__
    if isinstance(kind := getattr(knobs, name), type)
    and issubclass(kind, Knob)
    and kind not in (Knob, LayerKnob)
]


@pytest.fixture
def made(mapped):
    """A knob of each kind, of the first part of its sort."""
    model_map = mapped("resnet_projection")

    def make(kind):
        if kind is knobs.ArchitectureKnob:
            return kind(name="k", targets=("architecture",), domain=DOMAINS["architecture"])
        part = getattr(model_map, kind.part)[0]
        if kind is knobs.WidthKnob:
            domain = (part.channels, part.channels // 2)
            return kind(name="k", targets=(part.name,), domain=domain, channels=part.channels)
        return kind(name="k", targets=(part.name,), domain=DOMAINS[kind.kind])

    return make


def test_the_kinds_are_the_nine_and_no_two_share_a_name() -> None:
    assert len({kind.kind for kind in KINDS}) == len({kind.title for kind in KINDS}) == 9


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_applied_is_read_and_the_last_value_counts(kind, made) -> None:
    knob = made(kind)
    (target,) = knob.targets
    for value in (*knob.domain, *reversed(knob.domain)):
        setting = Setting()
        for before in knob.domain:
            knob.apply(setting, before)
        knob.apply(setting, value)
        assert knob.read(setting.candidate(), target) == value


@pytest.mark.parametrize("kind", KINDS)
def test_an_untouched_candidate_stands_at_the_first_value_or_at_the_identity(kind, made) -> None:
    knob = made(kind)
    setting = Setting()
    knob.apply(setting, knob.read(Candidate(), knob.targets[0]))
    assert setting.candidate() == Candidate()


@pytest.mark.parametrize("kind", KINDS)
def test_values_have_texts_of_their_own(kind, made) -> None:
    knob = made(kind)
    texts = [knob.text(value) for value in knob.domain]
    assert len(set(texts)) == len(texts)
    assert knob.domain_text == ", ".join(texts)
    assert {type(knob.plain(value)) for value in knob.domain} <= {int, str}


@pytest.mark.parametrize("kind", KINDS)
def test_a_knob_touches_a_segment_and_is_hidden_when_its_layers_are_gone(
    kind, made, mapped
) -> None:
    model_map, knob = mapped("resnet_projection"), made(kind)
    assert any(knob.touches(model_map, segment) for segment in model_map.segments)
    layers = knob.layers_of(model_map, knob.targets[0])
    assert layers <= set(model_map.layer_by_name)
    assert knob.is_live(model_map, Candidate(), frozenset(), knob.targets[0])
    if layers and kind is not knobs.DropKnob:
        assert not knob.is_live(model_map, Candidate(), layers, knob.targets[0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_knob_is_a_value(kind, made) -> None:
    knob = made(kind)
    assert knob == made(kind)
    with pytest.raises(FrozenInstanceError):
        knob.name = "other"


def test_tied_targets_are_named_in_the_label(mapped) -> None:
    knob = knobs.WeightBitsKnob(name="rule0:weight_bits", targets=("a", "b", "c"), domain=(8, 4))
    assert knob.label == "a and 2 tied to it: weight bits"
    alone = Space(architectures=(Architecture(name="", model_map=mapped("lenet"), knobs=(knob,)),))
    assert alone.network.label == "architecture"
