"""Uniform settings: one width of weights everywhere, one setting of the segments, all else mild."""

from dataclasses import replace

import pytest

from paredown.search.space.uniform_settings import uniform_settings
from paredown.spaces.candidates.candidate import SegmentChoice
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.block_drop import DropKnob
from paredown.spaces.knobs.segment_precision import SegmentKnob
from paredown.spaces.knobs.space import Space
from paredown.spaces.knobs.weight_bits import WeightBitsKnob
from paredown.spaces.knobs.width import WidthKnob

BITS = (32, 8, 4, 2)
FLOAT, EIGHT = SegmentChoice(), SegmentChoice(activation_bits=8)


@pytest.fixture
def architecture(mapped):
    model_map = mapped("resnet_a")
    group, block = model_map.groups[-1], model_map.blocks[-1]
    knobs = [
        WeightBitsKnob(name=f"{x.name}:b", targets=(x.name,), domain=BITS)
        for x in model_map.layers
    ]
    channels = group.channels
    knobs.append(
        WidthKnob(
            name="w", targets=(group.name,), domain=(channels, channels // 2), channels=channels
        )
    )
    knobs.append(DropKnob(name="d", targets=(block.name,), domain=(False, True)))
    return Architecture(name="", model_map=model_map, knobs=tuple(knobs))


def with_segments(architecture, domain):
    knobs = tuple(
        SegmentKnob(name=f"{s.name}:s", targets=(s.name,), domain=domain)
        for s in architecture.model_map.segments
    )
    return replace(architecture, knobs=(*architecture.knobs, *knobs))


def widths(candidate, architecture):
    return {candidate.layer(x.name).weight_bits for x in architecture.model_map.layers}


def test_every_width_once_the_narrowest_first_and_all_else_at_its_least_harmful(architecture):
    found = uniform_settings([architecture])
    assert [widths(c, architecture) for c in found] == [{2}, {4}, {8}, {32}]
    space = Space(architectures=(architecture,))
    for candidate in found:
        assert space.contains(candidate)
        assert not candidate.dropped
        assert not candidate.widths
        assert all(not c.zeros.share and c.rank.share == 1 for _, c in candidate.layers)


def test_in_turn_at_every_setting_of_the_segments(architecture):
    found = uniform_settings([with_segments(architecture, (FLOAT, EIGHT))])
    segments = [{c.activation_bits for _, c in each.segments} or {32} for each in found]
    # Beside float weights 8-bit activations are none: the last is there once.
    assert segments == [{32}, {8}] * 3 + [{32}]
    assert [widths(c, architecture) for c in found[::2]] == [{2}, {4}, {8}, {32}]
    assert [widths(c, architecture) for c in found[1::2]] == [{2}, {4}, {8}]


def test_a_wide_container_beside_float_activations_is_no_setting(architecture):
    wide = SegmentChoice(container="fast")
    found = uniform_settings([with_segments(architecture, (FLOAT, wide))])
    assert len(found) == 4
    assert all(c.container == "compact" for each in found for _, c in each.segments)


def test_a_layer_that_does_not_offer_a_width_has_the_next_wider_one(architecture):
    first, *others = architecture.knobs
    narrow = replace(architecture, knobs=(replace(first, domain=(32, 8)), *others))
    found = uniform_settings([narrow])
    assert [c.layer(first.targets[0]).weight_bits for c in found] == [8, 8, 8, 32]
    last = replace(first, domain=(4, 3))
    found = uniform_settings([replace(architecture, knobs=(last, *others))])
    # 32 bits are more than it offers: the widest there is.
    assert [c.layer(first.targets[0]).weight_bits for c in found] == [3, 3, 4, 4, 4]


def test_networks_take_turns(architecture, mapped):
    model_map = mapped("vgg")
    knobs = tuple(
        WeightBitsKnob(name=f"{x.name}:b", targets=(x.name,), domain=(32, 4))
        for x in model_map.layers
    )
    both = (
        replace(architecture, name="a"),
        Architecture(name="b", model_map=model_map, knobs=knobs),
    )
    names = [c.architecture for c in uniform_settings(both)]
    assert names == ["a", "b", "a", "b", "a", "a"]


def test_without_weight_bits_to_choose_there_is_nothing_uniform(architecture):
    plain = replace(architecture, knobs=architecture.knobs[-2:])
    assert uniform_settings([plain]) == []
