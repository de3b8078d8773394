"""Ranks and group sizes that rules ask for: which become choices, and why others do not."""

import pytest

from paredown.compressors.low_rank.rank_by_error import Found
from paredown.search.config.schema_space import (
    GroupRule,
    LayerRule,
    SegmentRule,
)
from paredown.search.space.scale_rules import ScaleRuleError
from paredown.search.space.space_rules import SpaceError
from paredown.spaces.candidates.ranks import Rank

PACKED = ("accuracy", "packed_bytes")
SHIPPED = ("accuracy", "onnx_bytes")
WIDTHS = GroupRule(groups=("layer3.0.conv1",), width=(1.0, 0.5))
RESNET_GROUPS = {"layer1.0.conv1": 8, "layer2.0.conv1": 16, "layer3.0.conv1": 32}


def channel(*shares):
    return tuple(Rank(share) for share in shares)


def test_a_low_rank_that_saves_nothing_is_no_choice(build, domains):
    rules = LayerRule(layers=("*",), rank_fraction=(1.0, 0.9, 0.25))
    found = domains(build(rules, network="mlp"))
    # Of 48 x 64, rank 43 takes 43 * 112 numbers, more than the whole 3072; rank 12 takes 1344.
    assert found["layers.1:rank_fraction"] == channel(1.0, 0.25)


def test_forms_are_offered_where_they_save_weights_most_weights_first(build, domains, reasons):
    rules = LayerRule(
        layers=("*",),
        rank_fraction=(0.25, 0.5, 1.0),
        decomposition=("tucker", "spatial", "channel"),
    )
    space = build(rules)
    # Of 9,216 weights 5,120 are left, then 4,608, 3,328, 2,560 and 1,088.
    assert domains(space)["layer3.1.conv2:rank_fraction"] == (
        Rank(1.0), Rank(0.5), Rank(0.25, "spatial"),
        Rank(0.5, "tucker"), Rank(0.25), Rank(0.25, "tucker"),
    )  # fmt: skip
    assert domains(space)["linear:rank_fraction"] == channel(1.0, 0.5, 0.25)
    alone = build(LayerRule(layers=("*",), rank_fraction=(1.0, 0.5), decomposition=("spatial",)))
    assert domains(alone)["layer3.1.conv2:rank_fraction"] == channel(1.0)
    assert "fewer weights" in reasons(alone, "decomposition spatial of layer3.1.conv2")[0]


def test_ranks_follow_the_device_where_time_is_a_goal(build, domains, reasons):
    rule = LayerRule(layers=("layer3.1.conv2",), rank_fraction=(1.0, 0.5, 0.25))
    timed = build(rule, WIDTHS, goals=("accuracy", "latency_s"))
    assert domains(timed)["layer3.1.conv2:rank_fraction"] == channel(1.0, 0.5)
    assert "multiples of 16" in reasons(timed, "rank 8 of layer3.1.conv2")[0]
    sized = build(rule)
    assert domains(sized)["layer3.1.conv2:rank_fraction"] == channel(1.0, 0.5, 0.25)


def test_ranks_by_error_are_asked_for_in_the_forms_and_steps_of_the_rules(build, domains):
    asked = []

    def find(architecture, layer, errors, step, form):
        asked.append((architecture, layer.name, errors, step, form))
        ranks = (4, 8) if form == "tucker" else (4,)
        return {error: Found(ranks=ranks, lost=error / 2) for error in errors}

    name = "layer3.1.conv2"
    rules = (
        LayerRule(
            layers=(name, "linear"), rank_error=(0.1, 0.2), decomposition=("spatial", "tucker")
        ),
        LayerRule(layers=("linear",), rank_error=(0.3,), rank_fraction=(1.0,), rank_step=2),
    )
    found = domains(build(*rules, find_ranks=find))
    assert asked == [
        ("", name, (0.1, 0.2), 1, "spatial"),
        ("", name, (0.1, 0.2), 1, "tucker"),
        ("", "linear", (0.3,), 2, "channel"),
    ]
    assert found[f"{name}:rank_fraction"] == (
        Rank(4 / 96, "spatial"),
        Rank(4 / 32, "tucker", 8 / 32),
    )
    assert found["linear:rank_fraction"] == (Rank(1.0), Rank(4 / 10))
    asked.clear()
    build(rules[0], WIDTHS, goals=("accuracy", "latency_s"), find_ranks=find)
    assert {each[3] for each in asked} == {16}
    tied = LayerRule(layers=("layer3*",), weight_bits=(4, 8), tie=True)
    with pytest.raises(SpaceError, match=r"rules\[1\]\.tie: tied layers share one choice"):
        build(rules[0], tied, find_ranks=find)


GROUPS = LayerRule(layers=("*",), weight_bits=(4, 32), group_size=(0, 128, 32))


def test_group_sizes_are_offered_to_rows_that_they_divide(build, domains, reasons):
    found = build(GROUPS, network="lenet")
    sizes = {n: d for n, d in domains(found).items() if n.endswith("group_size")}
    assert sizes == {
        "fc1:group_size": (32, 128, 0),
        "fc2:group_size": (32, 0),
        "fc3:group_size": (32, 0),
    }
    assert reasons(found, "group_size of conv2d") == [
        "only rows of linear layers may have several scales"
    ]
    assert reasons(found, "group_size 128 of fc2") == [
        "its outputs have 60 inputs, which is no more than one group"
    ]


def test_a_layer_that_is_always_beside_8_bits_has_no_groups(build, domains, reasons):
    eight = SegmentRule(segments=("*",), activation_bits=(8,))
    found = build(GROUPS, eight, network="lenet")
    assert not any(name.endswith("group_size") for name in domains(found))
    assert reasons(found, "group_size of fc1") == [
        "integer kernels take one scale for each output"
    ]


def test_group_sizes_beside_a_method_of_one_scale_are_refused(build, domains):
    slow = LayerRule(layers=("fc1",), method=("gptq", "obq"))
    with pytest.raises(ScaleRuleError, match=r"'fc1' must be of .* group_size 32, 128, got obq"):
        build(GROUPS, slow, network="lenet")
    whole = LayerRule(layers=("fc1",), group_size=(0,))
    assert "fc1:group_size" not in domains(build(GROUPS, slow, whole, network="lenet"))
