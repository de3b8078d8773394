"""Terms read off candidates, and factors learned from what damages came to."""

import numpy as np
import pytest

from paredown.search.proposing.prediction import DamageTerms, fit_quality
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
        "activations:/static",
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


def random_terms(count, generator):
    names = [f"layer:/{i}" for i in range(6)] + [f"width:/{i}" for i in range(3)]
    return [
        {name: float(generator.exponential(0.05)) for name in names if generator.random() < 0.6}
        for _ in range(count)
    ]


def test_factors_are_learned_and_intervals_cover():
    generator = np.random.default_rng(0)
    true = {f"layer:/{i}": 0.2 + 0.1 * i for i in range(6)} | {
        f"width:/{i}": 0.9 for i in range(3)
    }
    seen, new = random_terms(60, generator), random_terms(200, generator)
    noise = 0.002

    def lost(each):
        return sum(true[k] * v for k, v in each.items()) + noise * generator.standard_normal()

    model = fit_quality(seen, [lost(each) for each in seen], "")
    assert model is not None
    truth = np.array([lost(each) for each in new])
    mean, deviation = model.predict(new)
    plain = model.common * np.array([sum(each.values()) for each in new])
    assert np.abs(mean - truth).mean() < 0.35 * np.abs(plain - truth).mean()
    assert (np.abs(mean - truth) < 2 * np.hypot(deviation, noise)).mean() > 0.9


def test_a_target_never_seen_is_less_sure():
    generator = np.random.default_rng(1)
    seen = random_terms(30, generator)
    model = fit_quality(seen, [0.3 * sum(each.values()) for each in seen], "")
    assert model is not None
    mean, deviation = model.predict([{"layer:/0": 0.1}, {"layer:/new": 0.1}])
    assert mean == pytest.approx(0.03, rel=0.3)
    assert deviation[1] > deviation[0]


def test_without_any_damage_there_is_no_model():
    assert fit_quality([{}, {"architecture:": 1.0}], [0.0, 0.0], "") is None


def test_another_architecture_may_be_better():
    seen = [{"architecture:big": 1.0, "layer:big/a": d} for d in (0.01, 0.05, 0.1)]
    seen += [{"architecture:small": 1.0, "layer:small/a": d} for d in (0.01, 0.05, 0.1)]
    offset = {"architecture:big": -0.04, "architecture:small": 0.0}
    lost = [sum(offset.get(k, 0.3 * v) for k, v in each.items()) for each in seen]
    model = fit_quality(seen, lost, "small")
    assert model is not None
    mean, _ = model.predict([{"architecture:big": 1.0}, {"architecture:small": 1.0}])
    assert mean[0] == pytest.approx(-0.04, abs=0.01)
    assert mean[1] == pytest.approx(0.0, abs=0.005)


def test_static_and_dynamic_ranges_have_factors_of_their_own(terms, database):
    first, second, *_ = database("resnet_a").model_map.segments
    found = terms.of(
        Candidate.of(
            segments={
                first.name: SegmentChoice(activation_bits=8),
                second.name: SegmentChoice(activation_bits=8, ranges="dynamic"),
            }
        )
    )
    assert found["activations:/static"] == found["activations:/dynamic"] > 0
