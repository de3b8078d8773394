"""The sampler of a search: made from its space, prices and damages, uniform settings first."""

import dataclasses

import numpy as np
import pytest
from optuna.samplers import NSGAIISampler

from paredown.search.proposing.damage_terms import DamageTerms
from paredown.search.proposing.outlook import Outlook
from paredown.search.proposing.pareto.of_search import pareto_sampler
from paredown.search.proposing.pareto.pareto_sampler import ParetoSampler
from paredown.search.proposing.proposer import Proposer
from paredown.search.proposing.sampler import OptunaSampler
from paredown.search.space.uniform_settings import uniform_settings
from paredown.search.study.evaluation import UNCOMPRESSED, Evaluation, Goal
from paredown.spaces.candidates.candidate import Candidate, SegmentChoice
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.method import MethodKnob
from paredown.spaces.knobs.segment_precision import SegmentKnob
from paredown.spaces.knobs.space import Space
from paredown.spaces.knobs.weight_bits import WeightBitsKnob

GOALS = (
    Goal(metric="accuracy", direction="maximize"),
    Goal(metric="onnx_bytes", direction="minimize"),
)
BITS = (8, 4, 3, 2)


class World:
    """A truth by formula: each layer's damage costs accuracy by a factor of its own."""

    def __init__(self, model_map, database):
        layers, segments = model_map.layers, model_map.segments
        knobs = [
            WeightBitsKnob(name=f"{x.name}:b", targets=(x.name,), domain=BITS) for x in layers
        ]
        knobs += [
            MethodKnob(name=f"{x.name}:m", targets=(x.name,), domain=("gptq", "rtn"))
            for x in layers[:2]
        ]
        both = (SegmentChoice(), SegmentChoice(activation_bits=8))
        knobs += [
            SegmentKnob(name=f"{s.name}:s", targets=(s.name,), domain=both) for s in segments
        ]
        architecture = Architecture(name="", model_map=model_map, knobs=tuple(knobs))
        self.space = Space(architectures=(architecture,))
        self.weights = {x.name: float(np.prod(x.weight_shape)) for x in layers}
        self.terms = DamageTerms({"": database})
        self.base = self.evaluation(Candidate(), 0)

    def costs(self, candidate, names):
        size = sum(n / 8 * candidate.layer(x).weight_bits for x, n in self.weights.items())
        return dict.fromkeys(names, size)

    def evaluation(self, candidate, number):
        damages = self.terms.of(candidate)
        lost = sum(v for name, v in damages.items() if name.startswith(("layer:", "activations:")))
        metrics = {
            "accuracy": 0.9 - 0.1 * float(np.tanh(lost)),
            **self.costs(candidate, ["onnx_bytes"]),
        }
        return Evaluation(
            number=number,
            key=candidate.key,
            candidate=candidate,
            kind="search" if number else "reference",
            label="" if number else UNCOMPRESSED,
            metrics=metrics,
        )

    def sampler(self, goals=GOALS, costs=None, seed=0):
        return pareto_sampler(
            space=self.space,
            goals=goals,
            base=self.base,
            terms=self.terms,
            outlook=Outlook(),
            costs=costs or self.costs,
            seed=seed,
        )

    def proposed(self, sampler, count, refused_by=lambda candidate: None):
        directions = {goal.metric: goal.direction for goal in GOALS}
        adapter = OptunaSampler(self.space, directions, sampler)
        proposer = Proposer(self.space, [adapter], refused_by)
        proposer.learn(self.base)
        found = []
        for number in range(1, count + 1):
            found.append(proposer.ask())
            proposer.learn(self.evaluation(found[-1], number))
        return found


@pytest.fixture(scope="module")
def world(mapped, database):
    return World(mapped("vgg"), database("vgg"))


def test_uniform_settings_come_first_each_once_then_mixed_ones(world):
    uniforms = [c for c in uniform_settings(world.space.architectures) if world.space.contains(c)]
    assert len(uniforms) == 8, "four widths, each with both settings of the segments"
    found = world.proposed(world.sampler(), 14)
    assert found[:8] == uniforms
    assert len({c.key for c in found}) == 14
    mixed = [len({choice.weight_bits for _, choice in c.layers}) for c in found[8:]]
    assert max(mixed) > 1


def test_the_same_seed_proposes_the_same(world):
    first, same = (world.proposed(world.sampler(seed=1), 12) for _ in range(2))
    assert first == same


def test_where_nothing_is_a_quality_all_is_known_and_a_genetic_algorithm_searches(world):
    costs = [dataclasses.replace(GOALS[1], metric=name) for name in ("onnx_bytes", "latency_s")]
    assert isinstance(world.sampler(goals=costs), NSGAIISampler)
    assert isinstance(world.sampler(), ParetoSampler)


def test_what_has_no_price_is_never_proposed_beyond_the_uniform_ones(world):
    first = world.space.architectures[0].model_map.layers[0].name

    def costs(candidate, names):
        return None if candidate.layer(first).weight_bits == 3 else world.costs(candidate, names)

    found = world.proposed(world.sampler(costs=costs), 18)
    assert all(c.layer(first).weight_bits != 3 for c in found[8:])


def test_a_bound_on_the_bytes_is_kept(world):
    whole = world.base.metrics["onnx_bytes"]
    goals = (GOALS[0], dataclasses.replace(GOALS[1], at_most=whole / 8))

    def refused_by(candidate):
        return None if world.costs(candidate, ["b"])["b"] <= whole / 8 else "onnx_bytes"

    found = world.proposed(world.sampler(goals=goals), 12, refused_by)
    assert all(refused_by(c) is None for c in found)


def test_methods_have_no_order_and_equal_candidates_count_once(world):
    sampler = world.sampler()
    choices = sampler.expectation.choices
    unordered = {n for n, o in zip(choices.names, choices.ordered, strict=True) if not o}
    assert unordered == {n for n in choices.names if n.endswith(":m")}
