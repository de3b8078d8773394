"""What is proposed: never the same twice, never over a bound, advice first."""

import math

import pytest
from optuna.samplers import RandomSampler

from paredown.search.proposing import proposer as proposing
from paredown.search.proposing.proposer import Proposer, SpaceExhausted
from paredown.search.proposing.sampler import OptunaSampler
from paredown.search.proposing.samplers import OPTUNA
from paredown.search.study.evaluation import Evaluation, Failure, FailureKind
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.method import MethodKnob
from paredown.spaces.knobs.space import Space
from paredown.spaces.knobs.weight_bits import WeightBitsKnob

DIRECTIONS = {"accuracy": "maximize", "onnx_bytes": "minimize"}
BITS = (32, 8, 4, 2)
SAMPLERS = ("nsga2", "nsga3", "tpe", "random")


@pytest.fixture
def space(mapped):
    """Two layers of four widths each: sixteen candidates, all different."""
    knobs = tuple(
        WeightBitsKnob(name=f"{layer}:weight_bits", targets=(layer,), domain=BITS)
        for layer in ("layers.1", "layers.4")
    )
    return Space(architectures=(Architecture(name="", model_map=mapped("mlp"), knobs=knobs),))


class Listed:
    """A sampler with a list of candidates; records what it is notified of."""

    def __init__(self, candidates):
        self.candidates, self.heard, self.expected = list(candidates), [], []

    def suggest(self, known):
        return next((c for c in self.candidates if c.key not in known), None)

    def expect(self, candidate):
        self.expected.append(candidate.key)

    def learn(self, evaluation):
        self.heard.append(evaluation.key)


def propose(space, sampler="random", seed=0, advice=(), refused_by=lambda candidate: None):
    return Proposer(space, (Listed(advice), drawing(space, sampler, seed)), refused_by)


def drawing(space, sampler="random", seed=0):
    return OptunaSampler(space, DIRECTIONS, OPTUNA[sampler](seed, 8))


def bits_of(candidate):
    return tuple(candidate.layer(name).weight_bits for name in ("layers.1", "layers.4"))


def evaluated(candidate, number=0, error=None):
    first, second = bits_of(candidate)
    metrics = {"accuracy": 1 - 2.0**-first - 2.0**-second, "onnx_bytes": float(first + second)}
    return Evaluation(
        number=number,
        key=candidate.key,
        candidate=candidate,
        metrics={} if error else metrics,
        failure=error and Failure.of_text(FailureKind.RAISED, error),
    )


def widths(space, *parameters):
    names = list(space.dimensions())
    return space.decode(dict(zip(names, parameters, strict=True)))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_candidate_is_proposed_exactly_once_until_none_is_left(space, sampler):
    proposer = propose(space, sampler)
    seen = []
    for number in range(16):
        candidate = proposer.ask()
        assert space.contains(candidate)
        seen.append(bits_of(candidate))
        proposer.learn(evaluated(candidate, number))
    assert sorted(seen) == sorted((a, b) for a in BITS for b in BITS)
    with pytest.raises(SpaceExhausted, match="all of it was evaluated, 16 models"):
        proposer.ask()


def test_what_is_out_is_not_proposed_again(space):
    proposer = propose(space)
    keys = [proposer.ask().key for _ in range(16)]
    assert len(set(keys)) == 16


def test_the_same_seed_proposes_the_same_and_another_does_not(space):
    def draw(seed):
        proposer = propose(space, "nsga2", seed)
        keys = []
        for _ in range(10):
            candidate = proposer.ask()
            proposer.learn(evaluated(candidate))
            keys.append(candidate.key)
        return keys

    assert draw(3) == draw(3)
    assert draw(3) != draw(4)


def test_the_first_sampler_is_heard_first_and_known_candidates_are_passed_over(space):
    first, second, third = widths(space, 3, 0), widths(space, 1, 2), widths(space, 2, 2)
    proposer = propose(space, "nsga2", advice=[first, second, first, third])
    proposer.learn(evaluated(second))
    assert [proposer.ask() for _ in range(2)] == [first, third]
    assert proposer.ask() not in (first, second, third)


def test_advice_over_a_bound_is_counted_once_and_passed_over(space):
    large, small = widths(space, 0, 0), widths(space, 3, 3)
    proposer = propose(
        space,
        advice=[large, small],
        refused_by=lambda candidate: "onnx_bytes" if candidate == large else None,
    )
    assert proposer.ask() == small
    assert proposer.over_bound == {"onnx_bytes": 1}


def test_every_sampler_is_notified_of_every_proposal_and_evaluation(space):
    samplers = Listed([widths(space, 3, 3)]), Listed([widths(space, 2, 2)])
    proposer = Proposer(space, samplers, lambda candidate: None)
    asked = [proposer.ask() for _ in range(3)]
    assert asked[:2] == [widths(space, 3, 3), widths(space, 2, 2)]
    done = [evaluated(widths(space, 0, 1)), evaluated(asked[0], error="broken")]
    for evaluation in done:
        proposer.learn(evaluation)
    for sampler in samplers:
        assert sampler.expected == [candidate.key for candidate in asked]
        assert sampler.heard == [evaluation.key for evaluation in done]


def test_without_a_sampler_all_of_a_small_space_is_found(space):
    proposer = Proposer(space, (), lambda candidate: None)
    assert len({proposer.ask().key for _ in range(16)}) == 16
    with pytest.raises(SpaceExhausted, match="16 models"):
        proposer.ask()


def test_candidates_evaluated_elsewhere_are_never_proposed(space):
    proposer = propose(space)
    for candidate in [widths(space, a, b) for a in range(4) for b in range(3)]:
        proposer.learn(evaluated(candidate))
    asked = {bits_of(proposer.ask()) for _ in range(4)}
    assert asked == {(bits, 2) for bits in BITS}


def test_draws_over_a_bound_are_counted_and_never_proposed(space):
    def refused_by(candidate):
        return "onnx_bytes" if sum(bits_of(candidate)) > 16 else None

    proposer = propose(space, refused_by=refused_by)
    within = {(a, b) for a in BITS for b in BITS if a + b <= 16}
    assert {bits_of(proposer.ask()) for _ in range(len(within))} == within
    assert set(proposer.over_bound) == {"onnx_bytes"}
    assert proposer.over_bound["onnx_bytes"] > 0


class Stuck(RandomSampler):
    """A converged sampler: the first value of everything, always."""

    def __init__(self):
        super().__init__(seed=0)
        self.draws = 0

    def sample_independent(self, study, trial, param_name, param_distribution):
        self.draws += 1
        return 0


def test_a_converged_sampler_hides_nothing_of_a_small_space_and_its_end_is_seen_at_once(space):
    sampler = Stuck()
    proposer = Proposer(
        space, (OptunaSampler(space, DIRECTIONS, sampler),), lambda candidate: None
    )
    found = {bits_of(proposer.ask()) for _ in range(16)}
    assert found == {(a, b) for a in BITS for b in BITS}
    before = sampler.draws
    for _ in range(2):
        with pytest.raises(SpaceExhausted, match="16 models"):
            proposer.ask()
    # Two parameters a draw: a few tens of draws, not thousands.
    assert sampler.draws - before <= 2 * 2 * 20


def test_a_large_space_of_one_model_ends_too(mapped, monkeypatch):
    monkeypatch.setattr(proposing, "PATIENCE", 300)
    names = [layer.name for layer in mapped("resnet_a").layers]
    # Methods of float layers make no difference, so 2^14 settings are one model.
    knobs = tuple(
        MethodKnob(name=f"{n}:method", targets=(n,), domain=("gptq", "rtn")) for n in names
    )
    architecture = Architecture(name="", model_map=mapped("resnet_a"), knobs=knobs)
    proposer = propose(Space(architectures=(architecture,)))
    assert proposer.ask().layers == ()
    with pytest.raises(SpaceExhausted, match="300 random draws found nothing new in the space"):
        proposer.ask()


def test_a_space_without_an_open_knob_holds_one_model(mapped):
    architecture = Architecture(name="", model_map=mapped("mlp"), knobs=())
    proposer = propose(Space(architectures=(architecture,)))
    assert proposer.ask().layers == ()
    with pytest.raises(SpaceExhausted, match="all of it was evaluated, 1 model;"):
        proposer.ask()


def test_an_impossible_bound_exhausts_the_space_and_is_named(space):
    def refused_by(candidate):
        return "latency_s" if bits_of(candidate)[0] > 2 else "onnx_bytes"

    proposer = propose(space, refused_by=refused_by)
    with pytest.raises(
        SpaceExhausted, match="16 of its 16 models are over a bound, most over that of latency_s"
    ):
        proposer.ask()
    assert proposer.over_bound == {"latency_s": 12, "onnx_bytes": 4}  # each candidate once


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_failure_is_taken_and_the_search_goes_on(space, sampler):
    proposer = propose(space, sampler)
    keys = set()
    for number in range(12):
        candidate = proposer.ask()
        keys.add(candidate.key)
        error = "RuntimeError: broken" if number % 3 == 0 else None
        proposer.learn(evaluated(candidate, number, error))
    assert len(keys) == 12


def test_nsga2_follows_what_was_evaluated(mapped):
    """On a space too large to enumerate it finds more small settings than chance does."""
    names = [layer.name for layer in mapped("resnet_a").layers]
    knobs = tuple(
        WeightBitsKnob(name=f"{n}:weight_bits", targets=(n,), domain=BITS) for n in names
    )
    large = Space(
        architectures=(Architecture(name="", model_map=mapped("resnet_a"), knobs=knobs),)
    )

    def last_mean(sampler):
        proposer = propose(large, sampler)
        sizes = []
        for number in range(200):
            candidate = proposer.ask()
            size = math.fsum(candidate.layer(name).weight_bits for name in names)
            metrics = {"accuracy": 0.5, "onnx_bytes": size}
            proposer.learn(
                Evaluation(number=number, key=candidate.key, candidate=candidate, metrics=metrics)
            )
            sizes.append(size)
        return math.fsum(sizes[-50:]) / 50

    # Of a uniform draw the mean is 14 layers times 11.5 bits.
    assert abs(last_mean("random") - 161) < 15
    assert last_mean("nsga2") < 130


def test_what_is_evaluated_without_being_asked_for_is_never_proposed(space):
    for sampler in SAMPLERS:
        for seed in range(3):
            expected = [space.decode(dict.fromkeys(space.dimensions(), 1)), space.decode({})]
            proposer = propose(space, sampler, seed, advice=expected)
            proposer.expect(candidate.key for candidate in expected)
            keys = {proposer.ask().key for _ in range(14)}
            assert len(keys) == 14
            assert keys.isdisjoint(candidate.key for candidate in expected)
            with pytest.raises(SpaceExhausted):
                proposer.ask()
