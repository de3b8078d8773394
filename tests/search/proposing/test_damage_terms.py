"""Terms read off candidates: every decision that harms has one."""

import pytest

from paredown.compressors.layers.predicted_damage import DamagePredictor
from paredown.search.proposing.damage_terms import DamageTerms
from paredown.spaces.candidates.candidate import Candidate, LayerChoice, SegmentChoice


@pytest.fixture(scope="module")
def terms(database):
    return DamageTerms({"": database("resnet_a")})


def test_the_identity_has_no_terms(terms):
    assert terms.of(Candidate()) == {"architecture:": 1.0}


def test_every_decision_has_its_term(terms, database):
    model_map = database("resnet_a").model_map
    layer, group, block = model_map.layers[0], model_map.groups[-1], model_map.blocks[0]
    candidate = Candidate.of(
        layers={layer.name: LayerChoice(weight_bits=4)},
        segments={model_map.segments[0].name: SegmentChoice(activation_bits=8)},
        widths={group.name: group.channels // 2},
        dropped=(block.name,),
    )
    found = terms.of(candidate)
    assert set(found) == {
        "architecture:",
        f"layer:/{layer.name}",
        f"width:/{group.name}",
        f"drop:/{block.name}",
        f"activations:/{model_map.segments[0].name}",
    }
    assert found[f"layer:/{layer.name}"] == pytest.approx(
        database("resnet_a").damage(layer, LayerChoice(weight_bits=4), {}), rel=0.5
    )
    assert all(value > 0 for value in found.values())


def test_choices_of_layers_in_a_dropped_block_do_not_count(terms, database):
    block = database("resnet_a").model_map.blocks[0]
    choices = dict.fromkeys(block.layers, LayerChoice(weight_bits=2))
    with_choices = Candidate.of(layers=choices, dropped=(block.name,))
    assert terms.of(with_choices) == terms.of(Candidate.of(dropped=(block.name,)))


def test_narrower_widths_and_fewer_bits_harm_more(terms, database):
    model_map = database("resnet_a").model_map
    group, layer = model_map.groups[-1], model_map.layers[1].name
    widths = [terms.width("", group.name, w) for w in range(group.channels, 0, -8)]
    assert widths[0] == 0 < widths[-1]
    assert sorted(widths) == widths
    bits = [terms.layer("", layer, LayerChoice(weight_bits=b)) for b in (8, 6, 4, 3, 2)]
    assert bits[0] > 0
    assert sorted(bits) == bits


def test_activations_are_shares_of_all_segments_and_dynamic_ranges_harm_less(terms, database):
    segments = database("resnet_a").model_map.segments
    first, second, third, *_ = segments
    found = terms.of(
        Candidate.of(
            segments={
                first.name: SegmentChoice(activation_bits=8),
                second.name: SegmentChoice(activation_bits=8, ranges="dynamic"),
                third.name: SegmentChoice(activation_bits=32),
            }
        )
    )
    assert found[f"activations:/{first.name}"] == pytest.approx(1 / len(segments))
    assert 0 < found[f"activations:/{second.name}"] < found[f"activations:/{first.name}"]
    assert f"activations:/{third.name}" not in found


def test_a_skipped_block_harms_more_than_nothing_and_as_if_its_last_layer_gave_its_mean(
    terms, database
):
    block = database("resnet_a").model_map.blocks[0]
    harm = terms.drop("", block)
    assert harm > 0
    # More than rounding that layer to two bits.
    assert harm > terms.layer("", block.layers[-1], LayerChoice(weight_bits=2))
    assert terms.drop("", block) == harm


def test_each_damage_is_predicted_once_and_no_layer_is_solved(database, monkeypatch):
    found = database("resnet_a")
    asked = []
    predicted = DamagePredictor.layer

    def counting(predictor, layer, choice):
        asked.append(layer.name)
        return predicted(predictor, layer, choice)

    monkeypatch.setattr(DamagePredictor, "layer", counting)
    monkeypatch.setattr(type(found), "solution", None)
    counted = DamageTerms({"": found})
    names = [layer.name for layer in found.model_map.layers[:3]]
    candidate = Candidate.of(layers={n: LayerChoice(weight_bits=4) for n in names})
    first = counted.of(candidate)
    assert counted.of(candidate) == first
    assert asked == names
    assert all(first[f"layer:/{n}"] > 0 for n in names)
