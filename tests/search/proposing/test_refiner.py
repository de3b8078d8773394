"""What is advised: predicted fronts first, then what gains most; learned from what is told."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from paredown.search.proposing.ladder import draw_ladders, warm_start
from paredown.search.proposing.damage_terms import DamageTerms
from paredown.search.proposing.proposer import Proposer
from paredown.search.proposing.refiner import Refiner
from paredown.search.proposing.sampler import OptunaSampler
from paredown.search.proposing.samplers import BUILT_IN
from paredown.search.study.evaluation import UNCOMPRESSED, Evaluation, Failure, FailureKind, Goal
from paredown.search.study.pareto import front_of, hypervolume, reference_point
from paredown.spaces.candidates.candidate import Candidate, LayerChoice
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.space import Space
from paredown.spaces.knobs.weight_bits import WeightBitsKnob
from paredown.spaces.knobs.width import WidthKnob

GOALS = (
    Goal(metric="accuracy", direction="maximize"),
    Goal(metric="onnx_bytes", direction="minimize"),
    Goal(metric="latency_s", direction="minimize"),
)


class InventedTerms(DamageTerms):
    """Damages by formula: a sensitivity for each layer and group times how hard it is hit."""

    def __init__(self, model_map):
        super().__init__({"": SimpleNamespace(model_map=model_map)})
        names = [x.name for x in model_map.layers] + [g.name for g in model_map.groups]
        drawn = np.random.default_rng(1).lognormal(-4, 1, len(names))
        self.sensitivity = dict(zip(names, drawn, strict=True))

    def layer(self, architecture, name, choice):
        return self.sensitivity[name] * 16.0 ** (1 - choice.weight_bits / 2)

    def width(self, architecture, group, width):
        channels = next(g.channels for g in self._map.groups if g.name == group)
        return self.sensitivity[group] * (1 - width / channels)

    @property
    def _map(self):
        return self._databases[""].model_map


class World:
    """An invented truth: damage costs accuracy, by other factors than predicted."""

    def __init__(self, model_map):
        knobs = [
            WeightBitsKnob(name=f"{x.name}:b", targets=(x.name,), domain=(8, 4, 3, 2))
            for x in model_map.layers
        ]
        knobs += [
            WidthKnob(
                name=f"{g.name}:w",
                targets=(g.name,),
                domain=(g.channels, g.channels // 2),
                channels=g.channels,
            )
            for g in model_map.groups
        ]
        self.space = Space(
            architectures=(Architecture(name="", model_map=model_map, knobs=tuple(knobs)),)
        )
        self.terms = InventedTerms(model_map)
        self.model_map = model_map
        names = list(self.terms.sensitivity)
        drawn = np.exp(np.random.default_rng(5).uniform(-2, 2, len(names)))
        self.factor = dict(zip(names, drawn, strict=True))
        self.base = self.evaluation(Candidate(), 0)

    def costs(self, candidate):
        size = sum(
            candidate.layer(x.name).weight_bits * np.prod(x.weight_shape)
            for x in self.model_map.layers
        )
        narrow = sum(
            0.1 * (1 - dict(candidate.widths).get(g.name, g.channels) / g.channels)
            for g in self.model_map.groups
        )
        return {"onnx_bytes": size / 8 * (1 - narrow), "latency_s": 1e-3 * (1 - narrow)}

    def evaluation(self, candidate, number):
        lost = sum(
            self.factor[name.split("/")[1]] * damage
            for name, damage in self.terms.of(candidate).items()
            if not name.startswith("architecture")
        )
        return Evaluation(
            number=number,
            key=candidate.key,
            candidate=candidate,
            kind="search" if number else "reference",
            label="" if number else UNCOMPRESSED,
            metrics=self.costs(candidate) | {"accuracy": 0.9 - 0.2 * float(np.tanh(lost))},
        )

    def refiner(self, evaluations, refused_by=lambda candidate: None, costs=None):
        costs = costs or self.costs

        def price(candidate):
            found = costs(candidate)
            return found and np.array([found["onnx_bytes"], found["latency_s"]])

        ladders = draw_ladders(self.space.architectures, self.terms, price)
        return Refiner(
            space=self.space,
            goals=GOALS,
            ladders=ladders,
            terms=self.terms,
            warm=warm_start(ladders, 2, evaluations // 4),
            base=self.base,
            price=price,
            refused_by=refused_by,
            reference=reference_point(GOALS, self.base, self.base),
        )

    def volume(self, sampler, refiner, evaluations):
        directions = {goal.metric: goal.direction for goal in GOALS}
        plain = OptunaSampler(self.space, directions, BUILT_IN[sampler].make(0, 10))
        samplers = (plain,) if refiner is None else (refiner, plain)
        proposer = Proposer(self.space, samplers, lambda candidate: None)
        proposer.learn(self.base)
        told = [self.base]
        while len(told) < evaluations:
            batch = [proposer.ask() for _ in range(4)]
            for candidate in batch:
                told.append(self.evaluation(candidate, len(told)))
                proposer.learn(told[-1])
        assert len({e.key for e in told}) == len(told)
        reference = reference_point(GOALS, self.base, self.base)
        return hypervolume(front_of(told, GOALS), reference)


@pytest.fixture(scope="module")
def world(mapped):
    return World(mapped("resnet_a"))


def test_it_dominates_more_than_the_samplers_with_as_many_evaluations(world):
    refined = world.volume("ladder", world.refiner(40), 40)
    assert refined > 1.1 * world.volume("random", None, 40)
    assert refined > 1.1 * world.volume("nsga2", None, 40)


def test_a_warm_start_outside_the_space_is_passed_over(world):
    refiner = world.refiner(40)
    first, second = refiner.warm[:2]
    foreign = Candidate.of(layers={"elsewhere": LayerChoice(weight_bits=2)})
    refiner.warm[:] = [first, foreign, second]
    assert [refiner.suggest(known) for known in ((), {first.key})] == [first, second]


def test_it_gains_beyond_its_warm_start(world):
    refiner = world.refiner(40)
    warm = [world.evaluation(c, i + 1) for i, c in enumerate(refiner.warm)]
    reference = reference_point(GOALS, world.base, world.base)
    started = hypervolume(front_of([world.base, *warm], GOALS), reference)
    assert world.volume("ladder", world.refiner(40), 40) > 1.02 * started


def test_what_is_out_is_not_suggested_again_and_the_same_is_said_twice(world):
    def suggestions():
        refiner = world.refiner(16)
        known = set()
        for number, candidate in enumerate(list(refiner.warm) or []):
            refiner.suggest(known)
            known.add(candidate.key)
            refiner.learn(world.evaluation(candidate, number + 1))
        for number in range(8):
            candidate = world.space.decode(dict.fromkeys(world.space.dimensions(), number % 2))
            refiner.learn(world.evaluation(candidate, 20 + number))
        found = []
        for _ in range(6):
            candidate = refiner.suggest(known)
            assert candidate is not None
            found.append(candidate.key)
            known.add(candidate.key)
        return found

    first = suggestions()
    assert len(set(first)) == 6
    assert first == suggestions()


def test_failures_and_too_little_to_learn_from_leave_it_to_the_sampler(world):
    refiner = world.refiner(4)
    refiner.warm.clear()
    assert refiner.suggest(set()) is None
    for number in range(20):
        broken = Evaluation(
            number=number,
            key=f"k{number}",
            candidate=Candidate(),
            failure=Failure.of_text(FailureKind.RAISED, "out of memory"),
        )
        refiner.learn(broken)
    assert refiner.suggest(set()) is None


def test_what_a_bound_refuses_is_not_suggested(world):
    def suggestions(refused_by):
        refiner = world.refiner(16, refused_by)
        refiner.warm.clear()
        for number, candidate in enumerate(world.refiner(48).warm):
            refiner.learn(world.evaluation(candidate, number + 1))
        known = {}
        while len(known) < 6:
            candidate = refiner.suggest(known)
            assert candidate is not None
            known[candidate.key] = candidate
        return known

    def refused_by(candidate):
        return "latency_s" if len(candidate.widths) > 4 else None

    assert any(refused_by(c) for c in suggestions(lambda candidate: None).values())
    assert not any(refused_by(c) for c in suggestions(refused_by).values())


def test_what_has_no_price_is_never_suggested(world):
    first = world.model_map.layers[0].name

    def costs(candidate):
        return None if candidate.layer(first).weight_bits == 3 else world.costs(candidate)

    refiner = world.refiner(24, costs=costs)
    assert refiner.warm
    refiner.learn(world.base)
    known = {world.base.key}
    for number in range(1, 24):
        candidate = refiner.suggest(known)
        if candidate is None:
            candidate = world.space.decode(
                {n: number % size for n, size in world.space.dimensions().items()}
            )
        else:
            assert costs(candidate) is not None
        known.add(candidate.key)
        refiner.learn(world.evaluation(candidate, number))


def test_where_nothing_has_a_price_the_sampler_goes_on(world):
    refiner = world.refiner(24, costs=lambda candidate: None)
    assert not refiner.warm
    assert refiner.suggest(set()) is None


def test_now_and_then_something_is_suggested_that_costs_no_more_than_a_reference(world):
    refiner = world.refiner(48)
    known = set()
    for number, candidate in enumerate(list(refiner.warm)):
        refiner.learn(world.evaluation(candidate, number + 1))
        known.add(candidate.key)
    refiner.warm.clear()
    uniform = world.space.decode({n: int(n.endswith("b")) for n in world.space.dimensions()})
    lucky = replace(
        world.evaluation(uniform, 99),
        kind="reference",
        label="uniform 4-bit",
        metrics=world.costs(uniform) | {"accuracy": 0.95},
    )
    refiner.learn(lucky)
    rivals = 0
    for turn in range(1, 25):
        candidate = refiner.suggest(known)
        known.add(candidate.key)
        costs = world.costs(candidate)
        within = all(costs[name] <= lucky.metrics[name] for name in costs)
        rivals += within and turn % 8 == 0
    assert rivals == 3
