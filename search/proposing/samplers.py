"""The samplers that `search.sampler` names: those built in, and one of the user's own."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import optuna
from optuna.samplers import BaseSampler

from paredown.search.config.schema import Config, CustomTask
from paredown.search.proposing.sampler import Directions, OptunaSampler, distributions_of
from paredown.search.tasks.user_code import UserCodeError, called, load_function
from paredown.spaces.knobs.space import Space

_KEY = "search.sampler"


PARETO = "pareto"
"""The sampler of our own, `pareto.ParetoSampler`."""

OPTUNA: Mapping[str, Callable[[int, int], BaseSampler]] = {
    "nsga2": lambda seed, population: optuna.samplers.NSGAIISampler(
        population_size=population, seed=seed
    ),
    "nsga3": lambda seed, population: optuna.samplers.NSGAIIISampler(
        population_size=population, seed=seed
    ),
    "tpe": lambda seed, _: optuna.samplers.TPESampler(seed=seed, multivariate=True),
    "gp": lambda seed, _: optuna.samplers.GPSampler(seed=seed),
    "random": lambda seed, _: optuna.samplers.RandomSampler(seed=seed),
}
"""Optuna's samplers by name, made from seed and size of a population."""


def make_sampler(config: Config, space: Space, pareto: Callable[[], BaseSampler]) -> OptunaSampler:
    """The sampler of a search.

    Args:
        pareto: Makes the one that knows costs and damage, where the config asks for it.

    Raises:
        UserCodeError: The user's own cannot be imported, raises, or makes no Optuna sampler.
    """
    section = config.search
    directions = {goal.metric: goal.direction for goal in config.goals}
    if section.sampler == PARETO:
        return OptunaSampler(space, directions, pareto())
    if section.sampler not in OPTUNA:
        own = _own(config, space, directions)
        return OptunaSampler(space, directions, own, lambda: _guard(section.sampler))
    population = max(8, min(50, section.evaluations // 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        made = OPTUNA[section.sampler](section.seed, population)
    return OptunaSampler(space, directions, made)


def check_sampler(config: Config, space: Space) -> None:
    """Draws once from a sampler of the user's own, before anything expensive is begun.

    Raises:
        UserCodeError: As `make_sampler`, or it cannot draw for these goals.
    """
    if config.search.sampler not in (PARETO, *OPTUNA):
        make_sampler(config, space, _no_pareto).suggest(())


def _no_pareto() -> BaseSampler:
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
