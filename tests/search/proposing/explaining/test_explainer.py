"""Attributions against invented truths: costs and losses that are sums of known parts."""

import math

import numpy as np
import pytest

from paredown.search.proposing.explaining.explainer import Explainer
from paredown.search.study.evaluation import UNCOMPRESSED, Evaluation, Failure, FailureKind, Goal
from paredown.search.study.pareto import front_of
from paredown.spaces.candidates.candidate import Candidate, LayerChoice
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.space import Space
from paredown.spaces.knobs.weight_bits import WeightBitsKnob

GOALS = (
    Goal(metric="accuracy", direction="maximize"),
    Goal(metric="onnx_bytes", direction="minimize"),
)
LAYERS = ("layers.1", "layers.4")
FACTOR = {"layers.1": 0.4, "layers.4": 1.2}
SIZE = {"layers.1": 100.0, "layers.4": 10.0}
NETWORK_LOST = {"": 0.0, "big": 0.0, "small": 0.02}
FIXED = {"": 50.0, "big": 50.0, "small": 5.0}


def damage(choice):
    return 2.0**-choice.weight_bits


class Terms:
    """Damage 2^-bits of each layer."""

    def of(self, candidate):
        name = candidate.architecture
        layers = {f"layer:{name}/{n}": damage(c) for n, c in candidate.layers}
        return {f"architecture:{name}": 1.0} | layers


def lost(candidate):
    parts = sum(FACTOR[n] * damage(c) for n, c in candidate.layers)
    return parts + NETWORK_LOST[candidate.architecture]


def bytes_of(candidate):
    own = FIXED[candidate.architecture]
    return own + sum(SIZE[n] * candidate.layer(n).weight_bits / 8 for n in LAYERS)


def costs(candidate, names):
    return {name: bytes_of(candidate) for name in names}


def evaluated(number, candidate, **fields):
    metrics = {"accuracy": 0.9 - lost(candidate), "onnx_bytes": bytes_of(candidate)}
    return Evaluation(
        number=number, key=candidate.key, candidate=candidate, **{"metrics": metrics, **fields}
    )


def network(mapped, name):
    knobs = tuple(
        WeightBitsKnob(
            name=f"{layer}:weight_bits", targets=(layer,), domain=(32, 8, 6, 5, 4, 3, 2)
        )
        for layer in LAYERS
    )
    return Architecture(name=name, model_map=mapped("mlp"), knobs=knobs)


@pytest.fixture
def search(mapped):
    """(names of networks) -> the space, and forty evaluations of it, the uncompressed model first."""

    def make(*names):
        space = Space(architectures=tuple(network(mapped, name) for name in names))
        generator = np.random.default_rng(0)
        made = [
            evaluated(0, Candidate(architecture=names[0]), kind="reference", label=UNCOMPRESSED)
        ]
        for number in range(1, 40):
            bits = generator.choice([2, 3, 4, 5, 6, 8, 32], 2)
            layers = {
                n: LayerChoice(weight_bits=int(b)) for n, b in zip(LAYERS, bits, strict=True)
            }
            name = names[number % len(names)]
            made.append(evaluated(number, Candidate.of(architecture=name, layers=layers)))
        broken = Failure.of_text(FailureKind.RAISED, "x")
        failed = Candidate.of(
            architecture=names[0], layers={LAYERS[0]: LayerChoice(weight_bits=5)}
        )
        made.append(evaluated(40, failed, metrics={}, failure=broken))
        return space, made

    return make


def test_decisions_bought_and_cost_their_known_parts(search):
    space, made = search("")
    front = front_of(made, GOALS)
    found = Explainer(space, Terms(), costs).explain(made, front)
    assert found.evaluations == 40
    assert not found.is_trained
    losses = [
        0.9 - next(e for e in made if e.key == m.key).metrics["accuracy"] for m in found.members
    ]
    assert losses == sorted(losses)
    by_key = {e.key: e.candidate for e in made}
    checked = 0
    for member in found.members:
        candidate = by_key[member.key]
        assert {worth.what for worth in member.decisions} == {
            f"{name}: weights" for name, _ in candidate.layers
        }
        assert member.rest is None
        for worth in member.decisions:
            name = worth.what.split(":")[0]
            choice = candidate.layer(name)
            assert worth.choice == f"weight bits {choice.weight_bits}"
            assert worth.bought == {
                "onnx_bytes": pytest.approx(SIZE[name] * (4 - choice.weight_bits / 8))
            }
            truth = FACTOR[name] * damage(choice)
            each = worth.lost["accuracy"]
            assert abs(each.mean - truth) < 0.003 + 0.1 * truth
            assert abs(each.mean - truth) < 4 * each.deviation + 1e-3
            checked += 1
        assert member.total.bought["onnx_bytes"] == pytest.approx(490.0 - bytes_of(candidate))
        assert member.total.lost["accuracy"].mean == pytest.approx(lost(candidate), 0.1, 0.003)
    assert checked > 10


def test_importance_is_the_share_of_all_that_the_front_saves_and_loses(search):
    space, made = search("")
    four, two = LayerChoice(weight_bits=4), LayerChoice(weight_bits=2)
    both = evaluated(50, Candidate.of(layers={"layers.1": four, "layers.4": two}))
    one = evaluated(51, Candidate.of(layers={"layers.1": four}))
    found = Explainer(space, Terms(), costs).explain(
        [*made, both, one], front_of([both, one], GOALS)
    )
    (part,) = found.parts
    assert part.what == "weights"
    assert part.share == pytest.approx({"accuracy": 1.0, "onnx_bytes": 1.0})
    # 490 bytes whole; with 4 bits in the first 140, with 2 in the second as well 102.5.
    saved = math.log(490 / 140) + math.log(490 / 102.5)
    assert part.growth["onnx_bytes"] == pytest.approx(math.exp(saved / 2))
    shares = {each.what: each.share for each in found.decisions}
    second = math.log(140 / 102.5) / saved
    assert shares["layers.4: weights"]["onnx_bytes"] == pytest.approx(second)
    first = (math.log(452.5 / 102.5) + math.log(490 / 140)) / saved
    assert shares["layers.1: weights"]["onnx_bytes"] == pytest.approx(first)
    whole = lost(both.candidate) + lost(one.candidate)
    expected = FACTOR["layers.4"] * damage(two) / whole
    assert shares["layers.4: weights"]["accuracy"] == pytest.approx(expected, abs=0.05)


def test_neighbours_differ_in_what_was_decided_otherwise(search):
    space, made = search("")
    bits = (({}, 490.0), ({"layers.1": 4}, 140.0), ({"layers.1": 3, "layers.4": 8}, 97.5))
    members = [
        evaluated(
            50 + i, Candidate.of(layers={n: LayerChoice(weight_bits=b) for n, b in each.items()})
        )
        for i, (each, _) in enumerate(bits)
    ]
    found = Explainer(space, Terms(), costs).explain([*made, *members], front_of(members, GOALS))
    first, second = found.steps
    assert first.changes == ("layers.1: weight bits 32 → 4",)
    assert second.changes == ("layers.1: weight bits 4 → 3", "layers.4: weight bits 32 → 8")
    assert [step.values["onnx_bytes"] for step in found.steps] == [(490.0, 140.0), (140.0, 97.5)]
    assert (first.second, second.first) == (members[1].key, members[1].key)
    assert found.members[0].decisions == ()
    assert found.members[0].total.bought == {"onnx_bytes": 0.0}


def test_another_network_is_a_decision(search):
    space, made = search("big", "small")
    four = {"layers.1": LayerChoice(weight_bits=4)}
    small = evaluated(50, Candidate.of(architecture="small", layers=four))
    big = evaluated(51, Candidate.of(architecture="big", layers=four))
    found = Explainer(space, Terms(), costs).explain(
        [*made, small, big], front_of([big, small], GOALS)
    )
    assert found.steps[0].changes == ("network big → small",)
    worths = {worth.what: worth for worth in found.members[1].decisions}
    assert set(worths) == {"network", "small/layers.1: weights"}
    assert worths["network"].choice == "small"
    assert worths["network"].bought == {"onnx_bytes": 45.0}
    assert worths["network"].lost["accuracy"].mean == pytest.approx(0.02, abs=0.01)
    assert {part.what for part in found.parts} == {"weights", "network"}
    assert found.members[1].total.bought == {"onnx_bytes": pytest.approx(490 - 95.0)}


def test_each_candidate_is_priced_once(search):
    space, made = search("")
    asked = []

    def counting(candidate, names):
        asked.append(candidate.key)
        return costs(candidate, names)

    explainer = Explainer(space, Terms(), counting)
    front = front_of(made, GOALS)
    first = explainer.explain(made, front)
    assert explainer.explain(made, front) == first
    assert len(set(asked)) == len(asked)


def test_of_many_decisions_the_largest_are_priced_and_the_others_together(search, monkeypatch):
    space, made = search("")
    layers = {name: LayerChoice(weight_bits=4) for name in LAYERS}
    member = evaluated(50, Candidate.of(layers=layers))
    weights = {n: space.architectures[0].model_map.layer_by_name[n].weight_count for n in LAYERS}
    largest, other = sorted(LAYERS, key=lambda n: -weights[n])
    monkeypatch.setattr("paredown.search.proposing.explaining.explainer._MOST", 1)
    found = Explainer(space, Terms(), costs).explain([*made, member], front_of([member], GOALS))
    (only,) = found.members
    assert [worth.what for worth in only.decisions] == [f"{largest}: weights"]
    assert only.rest.what == "1 others"
    assert only.rest.bought == {"onnx_bytes": pytest.approx(SIZE[other] * 3.5)}


def test_what_has_no_price_is_left_open(search):
    space, made = search("")

    def failing(candidate, names):
        return None if candidate == Candidate() else costs(candidate, names)

    found = Explainer(space, Terms(), failing).explain(made, front_of(made, GOALS))
    assert {tuple(member.total.bought) for member in found.members} == {()}
    assert {part.share["onnx_bytes"] for part in found.parts} == {None}


def test_without_a_quality_or_damage_there_is_nothing_to_explain(search):
    space, made = search("")
    cheap = (GOALS[1], Goal(metric="macs", direction="minimize"))
    with_macs = [
        evaluated(
            e.number, e.candidate, metrics={**e.metrics, "macs": 1.0}, kind=e.kind, label=e.label
        )
        for e in made
        if not e.is_failed
    ]
    explainer = Explainer(space, Terms(), costs)
    assert explainer.explain(with_macs, front_of(with_macs, cheap)) is None
    assert explainer.explain(made[:1], front_of(made[:1], GOALS)) is None
    assert explainer.explain([], front_of([], GOALS)) is None
