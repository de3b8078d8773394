"""Samplers by name: the table and the schema agree, and the seed decides what is drawn."""

from types import SimpleNamespace

import pytest

from paredown.search.config import schema
from paredown.search.proposing.samplers import BUILT_IN, check_sampler, make_samplers
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


def test_the_schema_names_what_the_table_holds():
    assert tuple(BUILT_IN) == schema.SAMPLERS


@pytest.mark.parametrize("name", schema.SAMPLERS)
def test_the_seed_decides_what_a_built_in_sampler_draws(space, name):
    def drawn(seed):
        *_, sampler = make_samplers(config(name, seed), space, SimpleNamespace)
        return [sampler.suggest(()).key for _ in range(6)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_only_the_ladder_is_asked_before_an_optuna_sampler(space):
    ladder = SimpleNamespace()
    made = {name: make_samplers(config(name), space, lambda: ladder) for name in BUILT_IN}
    assert made["ladder"][0] is ladder
    assert {name: len(each) for name, each in made.items() if len(each) != 1} == {"ladder": 2}


def test_a_built_in_sampler_is_not_tried(space, monkeypatch):
    monkeypatch.setattr("optuna.create_study", None)
    for name in BUILT_IN:
        check_sampler(config(name), space)
