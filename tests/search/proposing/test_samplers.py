"""Samplers by name: the table and the schema agree, and the seed decides what is drawn."""

import pytest
from optuna.samplers import RandomSampler

from paredown.search.config import schema
from paredown.search.proposing.samplers import OPTUNA, PARETO, check_sampler, make_sampler
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.space import Space
from paredown.spaces.knobs.weight_bits import WeightBitsKnob


@pytest.fixture
def space(mapped):
    knobs = tuple(
        WeightBitsKnob(name=name, targets=(name,), domain=tuple(range(2, 9)))
        for name in ("layers.1", "layers.4")
    )
    return Space(architectures=(Architecture(name="", model_map=mapped("mlp"), knobs=knobs),))


def config(sampler, seed=0):
    return schema.Config.model_validate(
        {
            "task": {"name": "digits"},
            "goals": [{"metric": "accuracy"}, {"metric": "macs"}],
            "search": {"sampler": sampler, "seed": seed},
        }
    )


def never():
    raise AssertionError("asked for a sampler that the config does not name")


def test_the_schema_names_what_the_tables_hold():
    assert (PARETO, *OPTUNA) == schema.SAMPLERS


@pytest.mark.parametrize("name", OPTUNA)
def test_the_seed_decides_what_a_sampler_of_optuna_draws(space, name):
    def drawn(seed):
        sampler = make_sampler(config(name, seed), space, never)
        return [sampler.suggest(()).key for _ in range(6)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_ours_is_made_where_the_config_names_it(space):
    """The one that is handed over draws, and no other."""

    class Middle(RandomSampler):
        def sample_independent(self, study, trial, param_name, param_distribution):
            return 3

    sampler = make_sampler(config(PARETO), space, Middle)
    widths = [c.weight_bits for _, c in sampler.suggest(()).layers]
    assert widths == [5, 5]


def test_a_built_in_sampler_is_not_tried(space, monkeypatch):
    monkeypatch.setattr("optuna.create_study", None)
    for name in (PARETO, *OPTUNA):
        check_sampler(config(name), space)
