"""Rivals cost no more than the reference they are held against, and are the best of those."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from paredown.search.proposing.ladder import Ladder, _Decision
from paredown.search.proposing.promoting.rivals import least_harmful, rivals_among, unbeaten
from paredown.search.study.evaluation import UNCOMPRESSED, Evaluation, Goal
from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.weight_bits import WeightBitsKnob

GOALS = (
    Goal(metric="accuracy", direction="maximize", at_least=0.5),
    Goal(metric="latency_s", direction="minimize"),
    Goal(metric="onnx_bytes", direction="minimize"),
)
PLAIN = {"layer": 1.0}


def evaluation(key, accuracy, latency_s, onnx_bytes, kind="search", label=""):
    return Evaluation(
        number=0,
        key=key,
        candidate=Candidate(),
        kind=kind,
        label=label,
        metrics={"accuracy": accuracy, "latency_s": latency_s, "onnx_bytes": onnx_bytes},
    )


BASE = evaluation("base", 0.9, 1.0, 100.0, "reference", UNCOMPRESSED)
NARROW = evaluation("narrow", 0.8, 1.0, 20.0, "reference", "uniform 4-bit")


def values_of(evaluations):
    return np.array([[e.metrics[g.metric] for g in GOALS] for e in evaluations])


def test_a_reference_is_unbeaten_until_something_is_no_worse_anywhere_and_better_somewhere():
    worse = evaluation("a", 0.79, 0.5, 10.0)
    larger = evaluation("b", 0.85, 0.5, 21.0)
    assert unbeaten([BASE, NARROW, worse, larger], GOALS, "base") == [NARROW]
    assert unbeaten([BASE, NARROW, evaluation("c", 0.8, 1.0, 19.0)], GOALS, "base") == []


def test_rivals_cost_no_more_and_the_best_believed_come_first():
    found = [
        NARROW,
        evaluation("slower", 0.9, 1.1, 10.0),
        evaluation("larger", 0.9, 0.9, 21.0),
        evaluation("good", 0.6, 0.9, 20.0),
        evaluation("better", 0.7, 1.0, 19.0),
        evaluation("hopeless", 0.4, 0.1, 1.0),
    ]
    values = values_of(found)
    keys = [e.key for e in rivals_among(found, values, GOALS, NARROW, 9)]
    assert keys == ["better", "good"]
    assert len(rivals_among(found, values, GOALS, NARROW, 1)) == 1
    values[3, 0] = 0.75  # belief, not score, ranks
    assert rivals_among(found, values, GOALS, NARROW, 1)[0].key == "good"


def test_where_only_costs_are_goals_there_is_nothing_to_rank_by():
    goals = GOALS[1:]
    assert rivals_among([BASE], values_of([BASE])[:, 1:], goals, NARROW, 3) == []


BITS = (32, 4, 2)


def bits_of(name):
    return WeightBitsKnob(name=f"{name}:weight_bits", targets=(name,), domain=BITS)


class Toy:
    """A ladder of eight decisions with three options each: all costs add up exactly."""

    def __init__(self, mapped, seed):
        generator = np.random.default_rng(seed)
        model_map = mapped("resnet_a")
        names = [x.name for x in model_map.layers][:8]
        self.damages = {n: np.append(0, np.sort(generator.uniform(0, 0.1, 2))) for n in names}
        self.savings = {n: np.append(0, np.sort(generator.uniform(0, 0.12, 2))) for n in names}
        decisions = tuple(
            _Decision(
                options=tuple(((bits_of(n), i),) for i in range(len(BITS))),
                columns=(f"layer:/{n}",),
                damages=self.damages[n][:, None],
                costs=-self.savings[n][:, None],
            )
            for n in names
        )
        architecture = Architecture(name="", model_map=model_map, knobs=())
        self.ladder = Ladder(architecture=architecture, base=Candidate(), decisions=decisions)

    def options(self, candidate):
        return [BITS.index(candidate.layer(n).weight_bits) for n in self.damages]

    def price(self, candidate):
        chosen = zip(self.savings.values(), self.options(candidate), strict=True)
        return np.array([1.0 - sum(s[o] for s, o in chosen)])

    def damage(self, options):
        return sum(d[o] for d, o in zip(self.damages.values(), options, strict=True))

    def best(self, limit):
        """By trying all: the least damage within the limit."""
        within = [
            self.damage(options)
            for options in product(range(3), repeat=len(self.damages))
            if 1.0 - sum(s[o] for s, o in zip(self.savings.values(), options, strict=True))
            <= limit
        ]
        return min(within, default=None)


@pytest.mark.parametrize("seed", range(6))
def test_the_least_harmful_is_within_the_limit_and_near_the_best_of_all(mapped, seed):
    toy = Toy(mapped, seed)
    for limit in (0.9, 0.7, 0.5):
        found = least_harmful(toy.ladder, np.ones(1), PLAIN, toy.price, np.array([limit]))
        best = toy.best(limit)
        if found is None:
            assert best is None or limit < toy.price(toy.ladder.at(np.array([1e9]))[0])[0] + 1e-12
            continue
        assert toy.price(found)[0] <= limit
        damage = toy.damage(toy.options(found))
        # A price draws the lower convex hull: at most one decision's step above the best.
        assert best - 1e-12 <= damage <= best + max(d[2] for d in toy.damages.values())


def test_no_rival_where_no_price_is_low_enough_or_there_is_none(mapped):
    toy = Toy(mapped, 0)
    assert least_harmful(toy.ladder, np.ones(1), PLAIN, toy.price, np.array([0.01])) is None
    nothing = least_harmful(toy.ladder, np.ones(1), PLAIN, lambda c: None, np.array([0.9]))
    assert nothing is None


def test_a_reference_is_not_its_own_rival():
    twin = replace(NARROW, key="twin")
    found = [NARROW, twin]
    assert [e.key for e in rivals_among(found, values_of(found), GOALS, NARROW, 5)] == ["twin"]
