"""The ParetoSampler of a search: its space, its prices and predicted damages, uniform settings first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
from optuna.samplers import BaseSampler, NSGAIISampler

from paredown.search.proposing.damage_terms import DamageTerms
from paredown.search.proposing.outlook import Outlook
from paredown.search.proposing.pareto.of_space import SpaceCodes
from paredown.search.proposing.pareto.pareto_sampler import ParetoSampler
from paredown.search.proposing.pareto.tables import Array
from paredown.search.proposing.sampler import distributions_of
from paredown.search.space.uniform_settings import uniform_settings
from paredown.search.study.evaluation import Evaluation, Goal
from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.knobs.space import Space

Costs = Callable[[Candidate, Collection[str]], Mapping[str, float] | None]
"""From a candidate and names to costs by name; None where it has no price."""


def pareto_sampler(
    *,
    space: Space,
    goals: Sequence[Goal],
    base: Evaluation,
    terms: DamageTerms,
    outlook: Outlook,
    costs: Costs,
    seed: int,
) -> BaseSampler:
    """The sampler for these goals; NSGA-II where none of them is a quality, and all is known.

    Args:
        base: The uncompressed model's evaluation.
        outlook: What training will give back of the quality lost.
    """
    if all(goal.is_cost for goal in goals):
        return NSGAIISampler(seed=seed)
    names = [goal.metric for goal in goals if goal.is_cost]
    held = {
        goal.held_metric: goal.at_most
        for goal in goals
        if goal.is_cost and goal.at_most is not None and goal.held_metric not in names
    }
    priced = [*names, *held]

    def _price(candidate: Candidate) -> Array | None:
        found = costs(candidate, priced)
        return None if found is None else np.array([found[name] for name in priced])

    codes = SpaceCodes(space)
    first = [space.encode(c) for c in uniform_settings(space.architectures) if space.contains(c)]
    return ParetoSampler(
        distributions_of(space),
        codes.prices(_price, len(priced), tuple(held.values())),
        codes.damage(terms),
        goals,
        [base.metrics[goal.metric] for goal in goals],
        initial=first,
        unordered=codes.unordered,
        outlook=outlook,
        same=codes.same,
        seed=seed,
    )
