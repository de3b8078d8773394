"""A candidate as a trial: studies hold the names and values of its parameters, so they never change."""

from __future__ import annotations

import pytest

from paredown.search.study.trial_words import goal_unit, trial_parameters
from paredown.spaces.candidates.candidate import Candidate, LayerChoice, SegmentChoice
from paredown.spaces.candidates.ranks import Rank
from paredown.spaces.candidates.zeros import Zeros
from paredown.spaces.knobs import (
    Architecture,
    DropKnob,
    GroupSizeKnob,
    MethodKnob,
    RankKnob,
    SegmentKnob,
    Space,
    SparsityKnob,
    WeightBitsKnob,
    WidthKnob,
)


@pytest.fixture
def architecture(mapped):
    model_map = mapped("resnet_projection")
    group, block, segment = model_map.groups[0], model_map.blocks[0], model_map.segments[0]
    layer = model_map.layers[-1].name
    eight = SegmentChoice(activation_bits=8, ranges="dynamic")
    one, width = (layer,), (group.channels, 1)
    knobs = (
        WeightBitsKnob(name="b", targets=one, domain=(32, 4)),
        SparsityKnob(name="s", targets=one, domain=(Zeros(), Zeros(0.5, "2:4"))),
        RankKnob(name="r", targets=one, domain=(Rank(), Rank(0.25))),
        MethodKnob(name="m", targets=one, domain=("gptq", "rtn")),
        GroupSizeKnob(name="g", targets=one, domain=(0, 32)),
        SegmentKnob(name="a", targets=(segment.name,), domain=(SegmentChoice(), eight)),
        WidthKnob(name="w", targets=(group.name,), domain=width, channels=group.channels),
        DropKnob(name="d", targets=(block.name,), domain=(False, True)),
    )
    return Architecture(name="", model_map=model_map, knobs=knobs)


def test_every_kind_has_its_name_and_its_values(architecture) -> None:
    model_map = architecture.model_map
    layer, group = model_map.layers[-1].name, model_map.groups[0]
    space = Space(architectures=(architecture,))
    candidate = space.decode({"b": 1, "s": 1})
    values, domains = trial_parameters(space, candidate)
    assert {name: domain.choices for name, domain in domains.items()} == {
        f"{layer}: weight bits": (32, 4),
        f"{layer}: zeros": ("none", "50% 2:4"),
        f"{layer}: rank": ("whole", "25% channel"),
        f"{layer}: method": ("gptq", "rtn"),
        f"{layer}: inputs per scale": (0, 32),
        f"{model_map.segments[0].name}: activations": ("32 bit compact", "8 bit dynamic compact"),
        f"{group.name}: channels": (group.channels, 1),
        f"{model_map.blocks[0].name}: block": ("keep", "drop"),
    }
    assert (values[f"{layer}: weight bits"], values[f"{layer}: zeros"]) == (4, "50% 2:4")


def test_several_networks_have_a_parameter_and_names_of_their_own(mapped) -> None:
    bits = WeightBitsKnob(name="b", targets=("fc1", "fc2"), domain=(32, 8))
    space = Space(
        architectures=tuple(
            Architecture(name=name, model_map=mapped("lenet"), knobs=(bits,))
            for name in ("one", "two")
        )
    )
    values, _ = trial_parameters(space, space.decode({"architecture": 1, "two/b": 1}))
    label = "fc1 and 1 tied to it: weight bits"
    assert values == {"architecture": "two", f"two/{label}": 8}


def test_a_candidate_outside_the_space_has_no_parameters(architecture) -> None:
    odd = Candidate.of(layers={architecture.model_map.layers[0].name: LayerChoice(weight_bits=5)})
    assert trial_parameters(Space(architectures=(architecture,)), odd) == ({}, {})


def test_goals_have_one_unit_each() -> None:
    symbols = [goal_unit(m).symbol for m in ("latency_s@x", "onnx_bytes", "accuracy", "macs")]
    assert symbols == ["ms", "kB", "%", "M"]
