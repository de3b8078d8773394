"""Rules become knobs: later ones win, ties join, what moves no goal is left out with a reason."""

import pytest
import torch
from torch import nn

from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.devices.offered import capabilities
from paredown.search.config.schema_space import (
    BlockRule,
    GroupRule,
    LayerRule,
    SegmentRule,
    SpaceSection,
)
from paredown.search.space.rule_names import RuleNameError
from paredown.search.space.space_rules import SpaceError, build_space
from paredown.spaces.candidates.candidate import SegmentChoice
from paredown.spaces.candidates.ranks import Rank
from paredown.spaces.candidates.zeros import Zeros
from paredown.spaces.capture.capturing import capture
from paredown.spaces.structure.reading import read_model_map

PACKED = ("accuracy", "packed_bytes")
SHIPPED = ("accuracy", "onnx_bytes")
WIDTHS = GroupRule(groups=("layer3.0.conv1",), width=(1.0, 0.5))
RESNET_GROUPS = {"layer1.0.conv1": 8, "layer2.0.conv1": 16, "layer3.0.conv1": 32}


class Heads(nn.Module):
    """Four heads of six entries, and a hidden width."""

    def __init__(self):
        super().__init__()
        self.attend = nn.MultiheadAttention(24, 4, batch_first=True)
        self.up, self.down = nn.Linear(24, 20), nn.Linear(20, 2)

    def forward(self, x):
        return self.down(self.up(self.attend(x, x, x, need_weights=False)[0]).relu())


def test_any_number_of_heads_is_offered_and_widths_keep_the_devices_step(domains):
    model_map = read_model_map(capture(Heads(), torch.randn(2, 5, 24)))
    section = SpaceSection(rules=(GroupRule(groups=("*",), width=(1.0, 0.75, 0.5, 0.2)),))
    offered = capabilities(load_device("x86-avx512-vnni-ort"))
    found = domains(build_space(section, {"": model_map}, offered, PACKED))
    assert found["attend.in_proj_weight:width"] == (4, 3, 2, 1)
    step = offered.width_step
    assert found["up:width"] == (20, *(w for w in (15, 10, 4) if w % step == 0))


def open_knobs(space):
    """By name; segments that no rule opens are constants and not among them."""
    return {k.name: k for k in space.architectures[0].knobs if len(k.domain) > 1}


def test_a_container_that_the_device_does_not_offer_is_listed_or_alone_refused(build, reasons):
    both = SegmentRule(segments=("*",), activation_bits=(8, 32), container=("compact", "fast"))
    found = build(both)
    assert reasons(found, "container fast") == ["x86-avx512-vnni-ort does not offer it"]
    assert {c.container for k in open_knobs(found).values() for c in k.domain} == {"compact"}
    fast = SegmentRule(segments=("*",), activation_bits=(8, 32), container=("fast",))
    with pytest.raises(SpaceError, match=r"container of segment .* \['compact'\], got \['fast'\]"):
        build(fast)
    assert reasons(build(both, device="stm32h743-cmix-nn"), "container") == []


def test_activation_bits_that_the_device_does_not_offer_are_listed_or_alone_refused(
    build, reasons
):
    both = SegmentRule(segments=("*",), activation_bits=(8, 32))
    bits = LayerRule(layers=("*",), weight_bits=(8, 4))
    found = build(both, bits, device="stm32h743-cmix-nn")
    assert reasons(found, "activation_bits 32") == ["stm32h743-cmix-nn does not offer it"]
    wide = SegmentRule(segments=("*",), activation_bits=(32,))
    with pytest.raises(SpaceError, match=r"activation_bits of segment"):
        build(wide, bits, device="stm32h743-cmix-nn")


def test_a_later_rule_wins_field_by_field(build, domains):
    found = domains(
        build(
            LayerRule(layers=("*",), weight_bits=(4, 8, 32), method=("rtn", "gptq")),
            LayerRule(layers=("fc*",), weight_bits=(2,)),
            LayerRule(layers=("fc3",), method=("rtn",)),
            network="lenet",
        )
    )
    assert found["conv1:weight_bits"] == (32, 8, 4)
    assert found["conv1:method"] == ("gptq", "rtn")
    assert found["fc1:weight_bits"] == found["fc3:weight_bits"] == (2,)
    assert found["fc1:method"] == ("gptq", "rtn")
    assert found["fc3:method"] == ("rtn",)


def test_globs_choose_the_layers_and_the_rest_stays_closed(build, mapped):
    rule = LayerRule(layers=("layer2.*", "linear"), weight_bits=(4, 8))
    targets = {n for k in open_knobs(build(rule)).values() for n in k.targets}
    names = {layer.name for layer in mapped("resnet_a").layers}
    assert targets == {n for n in names if n.startswith("layer2.")} | {"linear"}


def test_a_tie_is_one_knob_for_all_and_a_later_rule_can_untie(build, mapped):
    space = build(
        LayerRule(layers=("*",), weight_bits=(2, 4, 8), tie=True),
        LayerRule(layers=("linear",), weight_bits=(8, 32), tie=False),
    )
    knobs = open_knobs(space)
    assert set(knobs) == {"rule0:weight_bits", "linear:weight_bits"}
    names = [layer.name for layer in mapped("resnet_a").layers]
    assert set(knobs["rule0:weight_bits"].targets) == set(names) - {"linear"}
    candidate = space.decode({"rule0:weight_bits": 2})
    assert {candidate.layer(n).weight_bits for n in names if n != "linear"} == {2}
    assert candidate.layer("linear").weight_bits == 32


def test_tied_targets_keep_the_values_they_share(build):
    tie = LayerRule(layers=("fc1", "fc2"), weight_bits=(2, 4, 8), tie=True)
    narrower = LayerRule(layers=("fc2",), weight_bits=(4, 8, 32))
    (shared,) = open_knobs(build(tie, narrower, network="lenet")).values()
    assert (shared.targets, shared.domain) == (("fc1", "fc2"), (8, 4))
    apart = LayerRule(layers=("fc2",), weight_bits=(6,))
    with pytest.raises(SpaceError, match=r"rules\[0\]\.tie.*'fc2'"):
        build(tie, apart, network="lenet")


@pytest.mark.parametrize(
    ("device", "step"), [("x86-avx512-vnni-ort", 16), ("stm32h743-tinyengine", 4)]
)
def test_widths_come_in_the_steps_of_the_device(build, device, step, domains, reasons):
    space = build(GroupRule(groups=("*",), width=(1.0, 0.75, 0.5)), device=device)
    found = domains(space)
    for group, channels in RESNET_GROUPS.items():
        asked = (channels, channels * 3 // 4, channels // 2)
        kept = tuple(w for w in asked if w == channels or w % step == 0)
        assert found[f"{group}:width"] == kept
        for width in set(asked) - set(kept):
            (reason,) = reasons(space, f"width {width} of {group}")
            assert f"multiples of {step}" in reason


def test_sparsity_is_left_out_unless_packed_bytes_are_a_goal(build, domains, reasons):
    rules = (
        LayerRule(layers=("*",), weight_bits=(4, 8)),
        LayerRule(layers=("*",), sparsity=(0.0, 0.5), pattern=("block", "element", "2:4")),
    )
    closed = build(*rules, network="mlp", goals=SHIPPED)
    assert domains(closed)["layers.1:sparsity"] == (Zeros(),)
    assert "packed_bytes" in reasons(closed, "sparsity (element)")[0]
    assert reasons(closed, "sparsity (2:4)")
    opened = domains(build(*rules, network="mlp", goals=PACKED))["layers.1:sparsity"]
    assert opened == (
        Zeros(),
        Zeros(0.5, "element"),
        Zeros(0.5, "2:4"),
        Zeros(0.5, "block"),
    )


def test_weight_bits_that_no_goal_tells_apart_are_left_out(build, domains, reasons):
    rule = LayerRule(layers=("*",), weight_bits=(2, 3, 4, 5, 6, 8, 32))
    space = build(rule, network="mlp", goals=SHIPPED)
    # The ONNX file stores 3 bits as int4, 5 and 6 as int8.
    assert domains(space)["layers.1:weight_bits"] == (32, 8, 4, 2)
    assert reasons(space, "weight bits 6, 5, 3")
    for goal in ("packed_bytes", "bops", "energy_ratio"):
        kept = domains(build(rule, network="mlp", goals=("accuracy", goal)))
        assert kept["layers.1:weight_bits"] == (32, 8, 6, 5, 4, 3, 2)


def test_segments_and_blocks_follow_their_last_rule(build, domains):
    space = build(
        SegmentRule(segments=("*",), activation_bits=(8, 32), container=("compact", "fast")),
        SegmentRule(segments=("linear",), activation_bits=(32,)),
        BlockRule(blocks=("*",), drop=True),
        BlockRule(blocks=("layer1.*",), drop=False),
    )
    found = domains(space)
    # ONNX Runtime reads compact weights as fast, so it is offered nothing else.
    every = tuple(SegmentChoice(activation_bits=b, container="compact") for b in (32, 8))
    assert found["conv1:segment"] == every
    assert "linear:segment" not in found or found["linear:segment"] == every[:1]
    drops = {name for name in found if name.endswith(":drop")}
    assert drops == {"layer2.1:drop", "layer3.1:drop"}
    assert found["layer2.1:drop"] == (False, True)


def test_rules_that_leave_nothing_to_decide_are_refused(build):
    with pytest.raises(SpaceError, match="at least one choice"):
        build(LayerRule(layers=("*",), weight_bits=(8,)))
    with pytest.raises(RuleNameError, match=r"rules\[0\]\.layers.*'nothing\.\*'"):
        build(LayerRule(layers=("nothing.*",), weight_bits=(4, 8)))


def test_a_rule_overrides_the_steps_of_the_device(build, domains):
    ranks = LayerRule(layers=("layer3.1.conv2",), rank_fraction=(1.0, 0.25), rank_step=8)
    widths = GroupRule(groups=("layer3.0.conv1",), width=(1.0, 0.75, 0.7), step=8)
    found = domains(build(ranks, widths, goals=("accuracy", "latency_s")))
    assert found["layer3.1.conv2:rank_fraction"] == (Rank(1.0), Rank(0.25))
    assert found["layer3.0.conv1:width"] == (32, 24)


def test_widths_that_the_device_does_not_run_are_left_out_and_none_left_is_an_error(
    build, domains, reasons
):
    rule = LayerRule(layers=("*",), weight_bits=(4, 8, 32))
    space = build(rule, device="stm32h743-tinyengine")
    assert domains(space)["linear:weight_bits"] == (8, 4)
    assert "does not run" in reasons(space, "weight bits 32")[0]
    with pytest.raises(SpaceError, match=r"'conv1' must hold one that stm32h743-tinyengine"):
        build(LayerRule(layers=("*",), weight_bits=(32,)), device="stm32h743-tinyengine")
