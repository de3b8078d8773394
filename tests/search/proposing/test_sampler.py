"""Optuna's samplers as ours: a trial for whatever is evaluated, and none left open."""

import pytest
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from paredown.search.proposing.sampler import OptunaSampler, distributions_of
from paredown.search.study.evaluation import Evaluation, Failure, FailureKind
from paredown.search.tasks.user_code import UserCodeError, called
from paredown.spaces.candidates.candidate import Candidate, LayerChoice
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.space import Space
from paredown.spaces.knobs.weight_bits import WeightBitsKnob

DIRECTIONS = {"accuracy": "maximize", "onnx_bytes": "minimize"}


class Witness(RandomSampler):
    """Draws the same position always, and keeps the trials that it is notified of."""

    def __init__(self, position=0):
        super().__init__(seed=0)
        self.position, self.closed = position, []

    def sample_independent(self, study, trial, param_name, param_distribution):
        return self.position

    def after_trial(self, study, trial, state, values):
        self.closed.append((dict(trial.params), state, values))


@pytest.fixture
def space(mapped):
    knob = WeightBitsKnob(name="bits", targets=("layers.1",), domain=(32, 8, 4))
    return Space(architectures=(Architecture(name="", model_map=mapped("mlp"), knobs=(knob,)),))


def evaluated(candidate, accuracy=0.5, failure=None):
    return Evaluation(
        number=0,
        key=candidate.key,
        candidate=candidate,
        metrics={} if failure else {"accuracy": accuracy, "onnx_bytes": 9.0, "macs": 1.0},
        failure=failure,
    )


def test_parameters_are_positions_in_each_domain(space):
    (bits,) = distributions_of(space).values()
    assert (bits.low, bits.high, bits.step) == (0, 2, 1)


def test_a_draw_that_is_evaluated_closes_its_trial_with_the_goals_values(space):
    witness = Witness(position=1)
    sampler = OptunaSampler(space, DIRECTIONS, witness)
    candidate = sampler.suggest(())
    assert candidate == space.decode({"bits": 1})
    sampler.expect(candidate)
    assert witness.closed == []
    sampler.learn(evaluated(candidate, 0.75))
    assert witness.closed == [({"bits": 1}, TrialState.COMPLETE, [0.75, 9.0])]


def test_a_draw_that_is_known_teaches_its_values_again(space):
    witness = Witness()
    sampler = OptunaSampler(space, DIRECTIONS, witness)
    candidate = space.decode({"bits": 0})
    sampler.learn(evaluated(candidate, 0.25))
    assert sampler.suggest({candidate.key}) == candidate
    assert witness.closed == [({"bits": 0}, TrialState.COMPLETE, [0.25, 9.0])] * 2


def test_a_draw_that_was_refused_or_failed_has_no_values(space):
    witness = Witness()
    sampler = OptunaSampler(space, DIRECTIONS, witness)
    sampler.suggest(())
    refused = sampler.suggest(())
    assert witness.closed == [({"bits": 0}, TrialState.FAIL, None)]
    sampler.expect(refused)
    sampler.learn(evaluated(refused, failure=Failure.of_text(FailureKind.RAISED, "broken")))
    assert witness.closed == [({"bits": 0}, TrialState.FAIL, None)] * 2


def test_what_others_propose_becomes_a_trial_unless_it_lies_outside_the_space(space):
    witness = Witness()
    sampler = OptunaSampler(space, DIRECTIONS, witness)
    other = space.decode({"bits": 2})
    sampler.expect(other)
    sampler.learn(evaluated(other))
    sampler.learn(evaluated(Candidate.of(layers={"layers.1": LayerChoice(weight_bits=2)})))
    assert witness.closed == [({"bits": 2}, TrialState.COMPLETE, [0.5, 9.0])]


def test_what_the_sampler_raises_is_reported_by_the_guard(space):
    class Broken(Witness):
        def sample_independent(self, study, trial, param_name, param_distribution):
            raise KeyError("no such thing")

    sampler = OptunaSampler(space, DIRECTIONS, Broken(), lambda: called("search.sampler: mine:x"))
    with pytest.raises(UserCodeError, match=r"search\.sampler: mine:x raised KeyError"):
        sampler.suggest(())
