"""The sampler by itself, in Optuna: invented problems with known costs and damages that are guessed."""

import statistics
import warnings

import numpy as np
import optuna
import pytest
from optuna.distributions import IntDistribution
from optuna.trial import TrialState

from paredown.search.proposing.optuna_log import quiet_optuna
from paredown.search.proposing.pareto.pareto_sampler import ParetoSampler
from paredown.search.proposing.pareto.problem import Damage
from paredown.search.study.evaluation import Goal
from paredown.search.study.pareto import dominated_volume, volume_axes

ACCURACY = Goal(metric="accuracy", direction="maximize")
BYTES = Goal(metric="onnx_bytes", direction="minimize")
SECONDS = Goal(metric="latency_s", direction="minimize")
ENERGY = Goal(metric="energy_j", direction="minimize")
ORDER = (ACCURACY, BYTES, SECONDS, ENERGY)
LAYERS, GROUPS, BITS = 14, 4, (8, 6, 4, 3, 2)


class Problem:
    """Layers of five widths of weights and groups of two widths of channels.

    The true damage departs from what is predicted by a factor for each kind and each target, neighbouring
    layers add to each other's, and scores are noisy. With `shuffled` the columns of damages are permuted.
    """

    def __init__(self, seed=0, goals=2, shuffled=False):
        generator = np.random.default_rng(seed)
        self.goals = ORDER[:goals]
        self.space = {f"layer{i}": IntDistribution(0, 4) for i in range(LAYERS)}
        self.space |= {f"group{i}": IntDistribution(0, 1) for i in range(GROUPS)}
        self.weights = generator.lognormal(0, 0.8, LAYERS) * 1e4
        self.sensitivity = generator.lognormal(-3.5, 1.0, LAYERS)
        self.harm = generator.lognormal(-3.5, 0.5, GROUPS)
        self.factor = np.concatenate(
            [0.5 * np.exp(generator.normal(0, 0.4, LAYERS)), 2.0 * np.ones(GROUPS)]
        )
        self.order = np.arange(LAYERS + GROUPS)
        if shuffled:
            self.order = np.random.default_rng(99).permutation(LAYERS + GROUPS)
        self.noise = np.random.default_rng(seed + 1000)

    def true_terms(self, codes):
        bits = np.array(BITS)[codes[:, :LAYERS]]
        layers = self.sensitivity * 2.0 ** (3 - bits)
        return np.hstack([layers, self.harm * codes[:, LAYERS:]])

    def terms(self, codes):
        return self.true_terms(codes)[:, self.order]

    @property
    def damage(self):
        kinds = ("layer",) * LAYERS + ("width",) * GROUPS
        return Damage(terms=self.terms, kinds=kinds)

    def prices(self, codes):
        bits = np.array(BITS)[codes[:, :LAYERS]]
        owner = np.minimum(np.arange(LAYERS) // 4, GROUPS - 1)
        narrow = 1 - 0.45 * codes[:, LAYERS:]
        size = (bits / 8 * self.weights * narrow[:, owner]).sum(axis=1)
        time = 1e-3 + 1e-8 * (self.weights * narrow[:, owner]).sum(axis=1)
        energy = 1e-3 + 1e-9 * (np.sqrt(bits) * self.weights * narrow[:, owner]).sum(axis=1)
        return np.stack([size, time, energy], axis=1)[:, : len(self.goals) - 1]

    def codes(self, parameters):
        return np.array([[parameters[name] for name in self.space]], np.int64)

    def accuracy(self, codes):
        lost = self.true_terms(codes) * self.factor
        both = np.sqrt(lost[:, : LAYERS - 1] * lost[:, 1:LAYERS]).sum(axis=1)
        return 0.9 - 0.6 * np.tanh(lost.sum(axis=1) + 0.3 * both)

    def values(self, parameters):
        codes = self.codes(parameters)
        score = self.accuracy(codes)[0] + 0.001 * self.noise.normal()
        return (float(score), *self.prices(codes)[0].tolist())

    @property
    def uncompressed(self):
        nothing = np.zeros((1, LAYERS + GROUPS), np.int64)
        return (0.9, *self.prices(nothing)[0].tolist())

    @property
    def first(self):
        """Uniform widths of weights, what anybody tries first, and the uncompressed model."""
        none = dict.fromkeys(self.space, 0)
        layers = [name for name in self.space if name.startswith("layer")]
        return [none | dict.fromkeys(layers, code) for code in range(5)]

    def sampler(self, seed=0, **more):
        return ParetoSampler(
            self.space,
            self.prices,
            self.damage,
            self.goals,
            self.uncompressed,
            initial=more.pop("initial", self.first),
            seed=seed,
            **more,
        )

    def study(self, sampler, trials, enqueued=()):
        with quiet_optuna(), warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study = optuna.create_study(
                directions=[goal.direction for goal in self.goals], sampler=sampler
            )
            for parameters in enqueued:
                study.enqueue_trial(parameters)
            study.optimize(lambda trial: self.values(drawn(trial, self.space)), n_trials=trials)
        return study

    def volume(self, study):
        """Of the true qualities, so that luck does not count."""
        codes = np.vstack([self.codes(trial.params) for trial in study.trials])
        values = np.column_stack([self.accuracy(codes), self.prices(codes)])
        origin = np.array([self.uncompressed])
        worst = volume_axes(origin - np.array([0.1] + [0.0] * (len(self.goals) - 1)), self.goals)
        return dominated_volume(volume_axes(values, self.goals), worst[0])


def drawn(trial, space):
    return {name: trial.suggest_int(name, each.low, each.high) for name, each in space.items()}


def rival(kind, seed):
    if kind == "tpe":
        return optuna.samplers.TPESampler(seed=seed, multivariate=True)
    return optuna.samplers.RandomSampler(seed=seed)


TRIALS = 40


def ours(problem, seed=0):
    return problem.volume(problem.study(problem.sampler(seed), TRIALS))


def theirs(problem, kind, seed=0):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return problem.volume(problem.study(rival(kind, seed), TRIALS, problem.first))


@pytest.mark.parametrize("goals", [2, 3])
def test_it_beats_tpe_and_chance_with_the_same_first_trials(goals):
    seed = goals
    mine = ours(Problem(seed, goals), seed)
    assert mine > 1.03 * theirs(Problem(seed, goals), "tpe", seed)
    assert mine > 1.03 * theirs(Problem(seed, goals), "random", seed)


def test_with_damages_that_belong_to_other_choices_it_does_not_lose_to_tpe():
    mine = statistics.median(ours(Problem(seed, shuffled=True), seed) for seed in range(3))
    other = statistics.median(theirs(Problem(seed), "tpe", seed) for seed in range(3))
    assert mine >= other


def test_without_any_damage_it_does_not_lose_to_chance():
    def alone(seed):
        problem = Problem(seed)
        sampler = ParetoSampler(
            problem.space,
            problem.prices,
            None,
            problem.goals,
            problem.uncompressed,
            initial=problem.first,
            seed=seed,
        )
        return problem.volume(problem.study(sampler, TRIALS))

    mine = statistics.median(map(alone, range(3)))
    assert mine >= statistics.median(theirs(Problem(s), "random", s) for s in range(3))


@pytest.mark.parametrize("goals", [2, 3, 4])
def test_any_number_of_goals_gains_beyond_the_first_trials(goals):
    problem = Problem(3, goals)
    study = problem.study(problem.sampler(), 20)
    first = problem.study(problem.sampler(), 5)
    assert problem.volume(study) > 1.1 * problem.volume(first)
    assert all(len(trial.values) == goals for trial in study.trials)


def test_the_seed_decides_and_nothing_is_proposed_twice():
    def proposed(seed):
        problem = Problem(1)
        return [t.params for t in problem.study(problem.sampler(seed), 15).trials]

    first = proposed(4)
    assert first == proposed(4)
    assert len({tuple(p.values()) for p in first}) == 15
    assert first != proposed(5)


def test_initial_ones_come_first_each_once():
    problem = Problem()
    once, other = problem.first[3], problem.first[1] | {"group0": 1}
    study = problem.study(problem.sampler(initial=[once, other, once]), 4)
    assert [t.params for t in study.trials][:2] == [once, other]
    assert once not in [t.params for t in study.trials][2:]


def test_trials_that_fail_are_not_proposed_again_and_teach_nothing():
    problem = Problem()
    sampler = problem.sampler(initial=())
    with quiet_optuna():
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        failed = []
        for _ in range(8):
            trial = study.ask()
            failed.append(drawn(trial, problem.space))
            study.tell(trial, state=TrialState.FAIL)
    assert len({tuple(p.values()) for p in failed}) == 8
    mean, _ = sampler.expectation.predict("accuracy", problem.codes(failed[0]))
    fresh, _ = problem.sampler().expectation.predict("accuracy", problem.codes(failed[0]))
    assert mean == pytest.approx(fresh)


def test_trials_that_are_out_are_not_proposed_again_and_spread():
    problem = Problem()
    with quiet_optuna():
        study = optuna.create_study(
            directions=["maximize", "minimize"], sampler=problem.sampler(initial=())
        )
        out = [drawn(study.ask(), problem.space) for _ in range(8)]
    assert len({tuple(p.values()) for p in out}) == 8
    sizes = np.log([problem.prices(problem.codes(p))[0, 0] for p in out])
    assert np.ptp(sizes) > 0.3


def test_trials_of_another_sampler_and_added_ones_are_learned_from():
    problem = Problem()
    study = problem.study(rival("random", 0), 12)
    sampler = problem.sampler(initial=())
    study.sampler = sampler
    before, _ = sampler.expectation.predict("accuracy", problem.codes(problem.first[4]))
    with quiet_optuna():
        study.optimize(lambda trial: problem.values(drawn(trial, problem.space)), n_trials=1)
    after, _ = sampler.expectation.predict("accuracy", problem.codes(problem.first[4]))
    truth = 0.9 - problem.accuracy(problem.codes(problem.first[4]))
    assert abs(after - truth) < abs(before - truth)
    assert study.trials[-1].params not in [t.params for t in study.trials[:-1]]
