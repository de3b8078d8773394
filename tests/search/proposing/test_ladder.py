"""Ladders against trying everything."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from paredown.compressors.onnx.sizes import packed_file_bytes
from paredown.search.proposing.ladder import draw_ladders, uniform_settings, warm_start
from paredown.search.proposing.damage_terms import DamageTerms
from paredown.spaces.candidates.candidate import Candidate, LayerChoice, SegmentChoice
from paredown.spaces.candidates.drafting import draft
from paredown.spaces.candidates.ranks import Rank
from paredown.spaces.candidates.zeros import Zeros
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.block_drop import DropKnob
from paredown.spaces.knobs.low_rank import RankKnob
from paredown.spaces.knobs.segment_precision import SegmentKnob
from paredown.spaces.knobs.sparsity import SparsityKnob
from paredown.spaces.knobs.weight_bits import WeightBitsKnob
from paredown.spaces.knobs.width import WidthKnob

BITS = (32, 8, 4, 2)
SHORT, LONG = SegmentChoice(activation_bits=8, container="fast"), SegmentChoice()


@pytest.fixture
def terms(database):
    return DamageTerms({"": database("resnet_a")})


@pytest.fixture
def architecture(mapped):
    model_map = mapped("resnet_a")
    layers = [layer.name for layer in model_map.layers[1:4]]
    group, block = model_map.groups[-1], model_map.blocks[-1]
    knobs = [WeightBitsKnob(name=f"{n}:weight_bits", targets=(n,), domain=BITS) for n in layers]
    knobs.append(
        WidthKnob(
            name="width",
            targets=(group.name,),
            domain=(group.channels, group.channels // 2),
            channels=group.channels,
        )
    )
    knobs.append(DropKnob(name="drop", targets=(block.name,), domain=(False, True)))
    return Architecture(name="", model_map=model_map, knobs=tuple(knobs))


def stored_weights(architecture):
    """A cost that adds up over layers, as files nearly do: weights times bits."""
    layers = architecture.model_map.layers

    def price(candidate):
        gone = {
            n
            for b in architecture.model_map.blocks
            if b.name in candidate.dropped
            for n in b.layers
        }
        kept = [x for x in layers if x.name not in gone]
        narrowed = 0.7 if candidate.widths else 1.0
        bits = [candidate.layer(x.name).weight_bits * np.prod(x.weight_shape) for x in kept]
        return np.array([sum(bits) * narrowed])

    return price


def test_every_price_finds_the_least_sum_of_damage_and_cost(architecture, terms):
    layers_only = replace(architecture, knobs=architecture.knobs[:3])
    price = stored_weights(architecture)
    (ladder,) = draw_ladders([layers_only], terms, price)
    origin = price(ladder.base)[0]
    names = [knob.targets[0] for knob in layers_only.knobs]
    settings = [
        Candidate.of(
            layers={n: LayerChoice(weight_bits=b) for n, b in zip(names, bits, strict=True)}
        )
        for bits in itertools.product(BITS, repeat=3)
    ]
    for weight in np.geomspace(1e-4, 1e3, 12):

        def total(candidate, weight=weight):
            damage = sum(v for k, v in terms.of(candidate).items() if k.startswith("layer:"))
            return damage + weight * price(candidate)[0] / origin

        found, damage = ladder.at(np.array([weight]))
        assert total(found) == pytest.approx(min(map(total, settings)))
        assert damage == pytest.approx(total(found) - weight * price(found)[0] / origin)


def test_higher_prices_never_cost_more(architecture, terms):
    price = stored_weights(architecture)
    (ladder,) = draw_ladders([architecture], terms, price)
    costs = [price(ladder.at(np.array([w]))[0])[0] for w in np.geomspace(1e-6, 1e4, 40)]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] > 1.5 * costs[-1]


def test_learned_factors_move_the_choice(architecture, terms):
    (ladder,) = draw_ladders([architecture], terms, stored_weights(architecture))
    name = architecture.knobs[0].targets[0]
    factors = {"layer": 1.0, "width": 1.0, "drop": 1.0}
    weight = np.array([0.05])
    free = ladder.at(weight, factors | {f"layer:/{name}": -1.0})[0]
    dear = ladder.at(weight, factors | {f"layer:/{name}": 1e3})[0]
    assert free.layer(name).weight_bits == 2
    assert dear.layer(name).weight_bits > 2


def test_a_ladder_for_every_uniform_setting_of_the_segments(architecture, mapped, terms):
    knobs = [
        SegmentKnob(name=f"{s.name}:s", targets=(s.name,), domain=(LONG, SHORT))
        for s in mapped("resnet_a").segments
    ]
    wider = Architecture(
        name="", model_map=architecture.model_map, knobs=(*architecture.knobs, *knobs)
    )
    ladders = draw_ladders([wider], terms, stored_weights(architecture))
    settings = [dict(each.base.segments) for each in ladders]
    assert [set(s.values()) for s in settings] == [set(), {SHORT}]


def test_the_warm_start_alternates_drops_nothing_and_is_as_short_as_asked(architecture, terms):
    ladders = draw_ladders([architecture], terms, stored_weights(architecture))
    warm = warm_start(ladders, 1, 5)
    assert 2 <= len(warm) <= 5
    assert len({c.key for c in warm}) == len(warm)
    assert not any(c.dropped for c in warm)


def test_low_rank_forms_are_options_of_one_decision(architecture, terms):
    model_map = architecture.model_map
    name = "layer3.1.conv2"
    domain = (
        Rank(1.0), Rank(0.4), Rank(0.2, "spatial"),
        Rank(0.3, "tucker"), Rank(0.3, "tucker", 0.5),
    )  # fmt: skip
    knob = RankKnob(name="r", targets=(name,), domain=domain)

    def price(candidate):
        held = packed_file_bytes(draft(model_map, candidate))
        return np.array([float(held)])

    (ladder,) = draw_ladders([replace(architecture, knobs=(knob,))], terms, price)
    candidates = [Candidate.of(layers={name: LayerChoice(rank=v)}) for v in domain]
    origin = price(candidates[0])[0]
    damages = [sum(v for k, v in terms.of(c).items() if "layer:" in k) for c in candidates]
    for weight in np.geomspace(1e-5, 1e3, 25):
        totals = [
            damage + weight * (price(candidate)[0] - origin) / origin
            for candidate, damage in zip(candidates, damages, strict=True)
        ]
        found, _ = ladder.at(np.array([weight]))
        assert totals[candidates.index(found)] == min(totals)


def test_what_no_damage_is_known_of_stays_as_it_is(architecture):
    class Silent:
        def of(self, candidate):
            return {"architecture:": 1.0}

    (ladder,) = draw_ladders([architecture], Silent(), stored_weights(architecture))
    assert ladder.decisions == ()
    assert ladder.at(np.array([1e9])) == (Candidate(), 0.0)


def test_knobs_of_a_layer_tied_apart_are_all_applied(architecture, terms):
    first, second = (layer.name for layer in architecture.model_map.layers[1:3])
    bits = WeightBitsKnob(name="rule0:weight_bits", targets=(first, second), domain=(32, 4))
    zeros = SparsityKnob(name="z", targets=(first,), domain=(Zeros(), Zeros(0.5, "element")))
    knobs = replace(architecture, knobs=(bits, zeros))

    def price(candidate):
        kept = [1 - candidate.layer(n).zeros.share / 2 for n in (first, second)]
        wide = [candidate.layer(n).weight_bits for n in (first, second)]
        return np.array([float(np.dot(kept, wide))])

    (ladder,) = draw_ladders([knobs], terms, price)
    found, _ = ladder.at(np.array([1e9]))
    assert found.layer(first).weight_bits == found.layer(second).weight_bits == 4
    assert found.layer(first).zeros == Zeros(0.5, "element")


def test_uniform_settings_have_one_width_and_all_else_at_its_least_harmful(architecture, terms):
    ladders = draw_ladders([architecture], terms, stored_weights(architecture))
    found = uniform_settings(ladders)
    assert found
    widths = []
    for candidate in found:
        bits = {choice.weight_bits for _, choice in candidate.layers} or {32}
        assert len(bits) == 1
        widths += bits
        assert not candidate.dropped
        assert not candidate.widths
        assert all(not c.zeros.share and c.rank.share == 1 for _, c in candidate.layers)
    assert widths == sorted(widths), "the narrowest first"
    assert len({c.key for c in found}) == len(found)
