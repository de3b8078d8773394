"""Decisions of candidates: which knobs are one, what they say, and the candidate without them."""

import pytest

from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.devices.offered import capabilities
from paredown.search.config.schema_space import BlockRule, GroupRule, LayerRule, SpaceSection
from paredown.search.proposing.explaining.decisions import decisions_of, put_back
from paredown.search.space.space_rules import build_space
from paredown.spaces.candidates.candidate import Candidate, LayerChoice, SegmentChoice
from paredown.spaces.candidates.zeros import Zeros
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.method import MethodKnob
from paredown.spaces.knobs.segment_precision import SegmentKnob
from paredown.spaces.knobs.weight_bits import WeightBitsKnob

RULES = SpaceSection(
    rules=(
        LayerRule(layers=("*",), weight_bits=(2, 4, 32), sparsity=(0.0, 0.5)),
        GroupRule(groups=("*",), width=(1.0, 0.5)),
        BlockRule(blocks=("*",), drop=True),
    )
)


@pytest.fixture
def residual(mapped):
    offered = capabilities(load_device("x86-avx512-vnni-ort"))
    goals = ["accuracy", "packed_bytes"]
    return build_space(RULES, {"": mapped("resnet_a")}, offered, goals).architectures[0]


def named(architecture, label):
    (found,) = [each for each in decisions_of(architecture) if each.label == label]
    return found


def test_the_knobs_of_a_layer_are_one_decision(residual):
    labels = [decision.label for decision in decisions_of(residual)]
    assert len(set(labels)) == len(labels)
    layer = residual.model_map.layers[2]
    decision = named(residual, f"{layer.name}: weights")
    assert {knob.kind for knob in decision.knobs} >= {"weight_bits", "sparsity"}
    assert decision.weights == layer.weight_count
    choice = LayerChoice(weight_bits=4, zeros=Zeros(0.5, "element"))
    candidate = Candidate.of(layers={layer.name: choice})
    assert decision.text(candidate) == "weight bits 4, zeros 50% element"
    assert decision.text(Candidate()) == ""
    fewer = Candidate.of(layers={layer.name: LayerChoice(weight_bits=2, zeros=choice.zeros)})
    assert decision.change(candidate, fewer) == "weight bits 4 → 2"
    assert decision.change(candidate, candidate) == ""


def test_one_decision_is_put_back_and_all_others_stay(residual):
    block, group = residual.model_map.blocks[0], residual.model_map.groups[-1]
    outside = [x.name for x in residual.model_map.layers if x.name not in block.layers]
    bits = {outside[0]: LayerChoice(weight_bits=4), outside[1]: LayerChoice(weight_bits=2)}
    widths = {group.name: group.channels // 2}
    whole = Candidate.of(layers=bits, widths=widths, dropped=(block.name,))

    def without(label):
        return put_back(residual, whole, [named(residual, label)])

    kept = {outside[1]: bits[outside[1]]}
    assert without(f"{outside[0]}: weights") == Candidate.of(
        layers=kept, widths=widths, dropped=(block.name,)
    )
    assert without(f"{group.name}: channels") == Candidate.of(layers=bits, dropped=(block.name,))
    assert without(f"{block.name}: dropping") == Candidate.of(layers=bits, widths=widths)
    assert put_back(residual, whole, decisions_of(residual)) == Candidate()


def test_what_goes_with_a_block_is_no_change_of_its_own(residual):
    block = residual.model_map.blocks[0]
    inside = block.layers[0]
    kept = Candidate.of(layers={inside: LayerChoice(weight_bits=4)})
    dropped = Candidate.of(dropped=(block.name,))
    assert named(residual, f"{inside}: weights").change(kept, dropped) == ""
    assert named(residual, f"{block.name}: dropping").change(kept, dropped) == "block keep → drop"


def test_tied_layers_are_one_decision_and_the_network_is_named(mapped):
    tied = WeightBitsKnob(name="bits", targets=("layers.1", "layers.4"), domain=(32, 4))
    method = MethodKnob(name="m", targets=("layers.1",), domain=("rtn", "gptq"))
    own = Architecture(name="small", model_map=mapped("mlp"), knobs=(tied, method))
    both, alone = decisions_of(own)
    assert both.label == "small/layers.1 and 1 tied to it: weights"
    assert alone.label == "small/layers.1: weights"
    four = LayerChoice(weight_bits=4)
    candidate = Candidate.of(architecture="small", layers={"layers.1": four, "layers.4": four})
    assert put_back(own, candidate, [both]) == Candidate(architecture="small")
    assert put_back(own, candidate, [alone]) == candidate


def test_bits_that_follow_from_a_segment_are_no_decision(mapped):
    model_map = mapped("mlp")
    segment = next(s for s in model_map.segments if "layers.1" in s.layers)
    domain = (SegmentChoice(), SegmentChoice(activation_bits=8))
    knobs = (
        SegmentKnob(name="s", targets=(segment.name,), domain=domain),
        WeightBitsKnob(name="bits", targets=("layers.1",), domain=(32, 8)),
    )
    own = Architecture(name="", model_map=model_map, knobs=knobs)
    eight = put_back(own, Candidate.of(segments={segment.name: domain[1]}), [])
    assert eight.layer("layers.1").weight_bits == 8
    assert put_back(own, eight, [named(own, "layers.1: weights")]) == eight
