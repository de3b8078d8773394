"""The samplers that `search.sampler` names: those built in, and one of the user's own."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.samplers import BaseSampler

from paredown.search.config.schema import Config, CustomTask
from paredown.search.proposing.sampler import Directions, OptunaSampler, Sampler, distributions_of
from paredown.search.tasks.user_code import UserCodeError, called, load_function
from paredown.spaces.knobs.space import Space

_KEY = "search.sampler"


@dataclass(frozen=True)
class BuiltIn:
    """A sampler of ours: an Optuna sampler by (seed, population), asked after the ladder or alone."""

    make: Callable[[int, int], BaseSampler]
    after_ladder: bool = False


def _nsga2(seed: int, population: int) -> BaseSampler:
    return optuna.samplers.NSGAIISampler(population_size=population, seed=seed)


BUILT_IN: Mapping[str, BuiltIn] = {
    "ladder": BuiltIn(_nsga2, after_ladder=True),
    "nsga2": BuiltIn(_nsga2),
    "nsga3": BuiltIn(
        lambda seed, population: optuna.samplers.NSGAIIISampler(
            population_size=population, seed=seed
        )
    ),
    "tpe": BuiltIn(lambda seed, _: optuna.samplers.TPESampler(seed=seed, multivariate=True)),
    "gp": BuiltIn(lambda seed, _: optuna.samplers.GPSampler(seed=seed)),
    "random": BuiltIn(lambda seed, _: optuna.samplers.RandomSampler(seed=seed)),
}


def make_samplers(
    config: Config, space: Space, ladder: Callable[[], Sampler]
) -> tuple[Sampler, ...]:
    """The samplers of a search, in the order in which they are asked.

    Args:
        ladder: Makes the one that starts from predicted damage, where the config asks for it.

    Raises:
        UserCodeError: The user's own cannot be imported, raises, or makes no Optuna sampler.
    """
    section = config.search
    directions = {goal.metric: goal.direction for goal in config.goals}
    built_in = BUILT_IN.get(section.sampler)
    if built_in is None:
        made = _own(config, space, directions)
        return (OptunaSampler(space, directions, made, lambda: _guard(section.sampler)),)
    population = max(8, min(50, section.evaluations // 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        made = built_in.make(section.seed, population)
    plain = OptunaSampler(space, directions, made)
    return (ladder(), plain) if built_in.after_ladder else (plain,)


def check_sampler(config: Config, space: Space) -> None:
    """Draws once from a sampler of the user's own, before anything expensive is begun.

    Raises:
        UserCodeError: As `make_samplers`, or it cannot draw for these goals.
    """
    if config.search.sampler not in BUILT_IN:
        (own,) = make_samplers(config, space, _no_ladder)
        own.suggest(())


def _no_ladder() -> Sampler:
    raise AssertionError("a sampler of the user's own is asked alone")


def _own(config: Config, space: Space, directions: Directions) -> BaseSampler:
    section, task = config.search, config.task
    folder = task.code_folder if isinstance(task, CustomTask) else Path.cwd()
    factory = load_function(_KEY, section.sampler, folder)
    with _guard(section.sampler):
        made = factory(dict(distributions_of(space)), dict(directions), section.seed)
    if not isinstance(made, BaseSampler):
        kind = made if isinstance(made, type) else type(made)
        raise UserCodeError(
            f"{_KEY}: {section.sampler} must return an optuna.samplers.BaseSampler, got "
            f"{kind.__name__}; return an instance of one"
        )
    return made


def _guard(name: str) -> AbstractContextManager[None]:
    return called(f"{_KEY}: {name}")
