"""Parameters and candidates are two names of one thing, and equal models have one name."""

from __future__ import annotations

import json
import random

import pytest

from paredown.spaces.candidates.candidate import Candidate, LayerChoice, SegmentChoice
from paredown.spaces.candidates.drafting import draft
from paredown.spaces.candidates.ranks import Rank
from paredown.spaces.candidates.zeros import Zeros
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.block_drop import DropKnob
from paredown.spaces.knobs.canonical_form import canonical
from paredown.spaces.knobs.low_rank import RankKnob
from paredown.spaces.knobs.method import MethodKnob
from paredown.spaces.knobs.segment_precision import SegmentKnob
from paredown.spaces.knobs.space import Space
from paredown.spaces.knobs.sparsity import SparsityKnob
from paredown.spaces.knobs.weight_bits import WeightBitsKnob
from paredown.spaces.knobs.width import WidthKnob

NAMES = ("resnet_projection", "mobilenet_v2", "unet", "words", "resnet20")
BITS = (32, 8, 6, 5, 4, 3, 2)
SPARSITY = (Zeros(), Zeros(0.5, "element"), Zeros(0.5, "2:4"))
RANKS = (
    Rank(), Rank(0.5), Rank(0.3, "spatial"), Rank(0.3, "tucker"),
    Rank(0.3, "tucker", 0.6), Rank(0.5, "tucker", 1.0), Rank(0.1),
)  # fmt: skip
SEGMENT = tuple(
    SegmentChoice(activation_bits=bits, container=container, ranges=ranges)
    for bits, ranges in ((32, "static"), (8, "dynamic"), (8, "static"))
    for container in ("compact", "fast")
)


def knobs_of(model_map, ties):
    """Every knob of a map; with `ties` all layers, and all segments, share theirs."""
    layers = tuple(layer.name for layer in model_map.layers)
    segments = tuple(segment.name for segment in model_map.segments)
    offers = (
        (WeightBitsKnob, layers, BITS),
        (RankKnob, layers, RANKS),
        (MethodKnob, layers, ("gptq", "rtn")),
        (SegmentKnob, segments, SEGMENT),
    )
    found = [
        knob(name=f"{knob.kind}:{'all' if ties else targets[0]}", targets=targets, domain=domain)
        for knob, parts, domain in offers
        for targets in ([parts] if ties else [(part,) for part in parts])
    ]
    found += [SparsityKnob(name=f"s:{n}", targets=(n,), domain=SPARSITY) for n in layers]
    for group in model_map.groups:
        domain = tuple(range(group.channels, 0, -max(1, group.channels // 4)))
        found.append(
            WidthKnob(
                name=f"w:{group.name}",
                targets=(group.name,),
                domain=domain,
                channels=group.channels,
            )
        )
    for block in model_map.blocks:
        found.append(DropKnob(name=f"d:{block.name}", targets=(block.name,), domain=(False, True)))
    return tuple(found)


def space_of(*maps, ties=False):
    return Space(
        architectures=tuple(
            Architecture(name=name, model_map=found, knobs=knobs_of(found, ties))
            for name, found in maps
        )
    )


def settings(space, count):
    draw = random.Random(0)
    for _ in range(count):
        # half the parameters at their first value: canonical form has most to do in between
        yield {n: draw.choice((0, draw.randrange(k))) for n, k in space.dimensions().items()}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_encoding_a_candidate_and_decoding_gives_it_back(name, ties, mapped) -> None:
    space = space_of(("", mapped(name)), ties=ties)
    for parameters in settings(space, 60):
        candidate = space.decode(parameters)
        assert space.decode(space.encode(candidate)) == candidate
        assert space.contains(candidate)


@pytest.mark.parametrize("name", NAMES)
def test_canonical_form_is_reached_in_one_step(name, mapped) -> None:
    space = space_of(("", mapped(name)))
    for parameters in settings(space, 60):
        candidate = space.decode(parameters)
        assert canonical(space.architectures[0], candidate) == candidate


def test_a_key_survives_json(mapped) -> None:
    space = space_of(("", mapped("resnet_projection")))
    for parameters in settings(space, 40):
        candidate = space.decode(parameters)
        again = Candidate.from_json(json.loads(json.dumps(candidate.to_json())))
        assert again == candidate
        assert again.key == candidate.key


def test_an_architecture_knows_only_its_own_knobs(mapped) -> None:
    space = space_of(("one", mapped("lenet")), ("two", mapped("vgg")))
    for parameters in settings(space, 40):
        candidate = space.decode(parameters)
        assert candidate.architecture == ("one", "two")[parameters["architecture"]]
        assert space.decode(space.encode(candidate)) == candidate


def test_the_first_values_are_the_uncompressed_model(mapped) -> None:
    assert space_of(("", mapped("resnet20"))).decode({}) == Candidate()


def test_a_value_outside_its_domain_is_refused(mapped) -> None:
    space = space_of(("", mapped("lenet")))
    odd = Candidate.of(layers={"conv1": LayerChoice(zeros=Zeros(0.123, "element"))})
    assert not space.contains(odd)
    with pytest.raises(ValueError, match=r"s:conv1: Zeros\(share=0\.123, pattern='element'\)"):
        space.encode(odd)


def test_equal_models_have_equal_keys(mapped) -> None:
    model_map = mapped("resnet20")
    architecture = Architecture(name="", model_map=model_map, knobs=())
    block = model_map.blocks[0]
    inner = next(g for g in model_map.groups if set(g.producers) <= set(block.layers))
    plain = Candidate.of(dropped=(block.name,))
    inert = Candidate.of(
        dropped=(block.name,),
        widths={inner.name: 1},
        layers={block.layers[0]: LayerChoice(weight_bits=4), "conv1": LayerChoice(method="gptq")},
    )
    assert canonical(architecture, inert) == plain


def test_no_float_weights_stand_beside_8_bit_activations(mapped) -> None:
    # ONNX Runtime would round them, with one scale for the whole tensor
    model_map = mapped("words")
    eight = {s.name: SegmentChoice(activation_bits=8) for s in model_map.segments}
    architecture = Architecture(name="", model_map=model_map, knobs=())
    found = canonical(architecture, Candidate.of(segments=eight))
    assert {n: c.weight_bits for n, c in found.layers} == {"mix": 8, "head": 8}


@pytest.mark.parametrize("name", NAMES)
def test_a_canonical_rank_always_splits_its_layer(name, mapped) -> None:
    space = space_of(("", mapped(name)))
    for parameters in settings(space, 40):
        candidate = space.decode(parameters)
        split = {op.layer for op in draft(mapped(name), candidate).operators if op.part == 1}
        assert split == {n for n, c in candidate.layers if c.rank.share < 1}


def test_knobs_of_one_value_are_constants(mapped) -> None:
    model_map = mapped("lenet")
    knob = WeightBitsKnob(name="b", targets=("fc1", "fc2"), domain=(4,))
    space = Space(architectures=(Architecture(name="", model_map=model_map, knobs=(knob,)),))
    assert space.dimensions() == {}
    assert space.decode({}).layer("fc2").weight_bits == 4
