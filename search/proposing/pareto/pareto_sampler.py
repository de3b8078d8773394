"""ParetoSampler: an Optuna sampler that knows costs exactly and learns what decisions do to quality."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from paredown.search.proposing.outlook import Outlook
from paredown.search.proposing.pareto.expecting import Expectation
from paredown.search.proposing.pareto.problem import (
    Choices,
    Damage,
    Population,
    Prices,
    positions,
)
from paredown.search.proposing.pareto.tables import Codes
from paredown.search.study.evaluation import Goal

Distributions = Mapping[str, BaseDistribution]
_FIRST = 512
"""Of the candidates found, those looked through for one that was never proposed."""


def choices_of(space: Distributions, unordered: Collection[str] = ()) -> Choices:
    """The choices of distributions: integers are ordered unless listed, categories are not.

    Raises:
        ValueError: A distribution is not discrete.
    """
    sizes, ordered = [], []
    for name, each in space.items():
        if isinstance(each, IntDistribution) and not each.log:
            sizes.append((each.high - each.low) // each.step + 1)
        elif isinstance(each, CategoricalDistribution):
            sizes.append(len(each.choices))
        else:
            raise ValueError(
                f"ParetoSampler draws from integers and categories, {name} is {each}; "
                "use IntDistribution or CategoricalDistribution"
            )
        ordered.append(isinstance(each, IntDistribution) and name not in unordered)
    return Choices(names=tuple(space), sizes=tuple(sizes), ordered=tuple(ordered))


class ParetoSampler(BaseSampler):
    """Proposes what is expected to add most to the front's hypervolume, over a discrete space.

    Expected gains are exact in the costs, which `prices` knows, and take the quality's whole posterior in
    (Emmerich et al. 2006, doi:10.1109/TEVC.2005.859463). Trials that fail are never proposed again.

    Args:
        space: The parameters' distributions by name: `IntDistribution` where the order means something,
            `CategoricalDistribution` elsewhere.
        prices: From codes (n, k) to the costs (n, c) of the goals that are costs, in their order; NaN
            where a candidate has none. Codes are positions in the distributions, in their order, from 0.
        damage: Predicted damages of decisions; None where nothing is known.
        goals: What the study optimises, in the order of its directions.
        uncompressed: The goals' values (d,) where every code is 0.
        initial: Parameters that are proposed first, in order.
        unordered: Names of integers whose order means nothing.
        outlook: What later training gives back of the quality lost.
        same: From codes (k,) to those of an equal candidate, the same for all that are equal.
        seed: Of the search for candidates.
    """

    def __init__(
        self,
        space: Distributions,
        prices: Prices | Population,
        damage: Damage | None,
        goals: Sequence[Goal],
        uncompressed: Sequence[float],
        *,
        initial: Sequence[Mapping[str, Any]] = (),
        unordered: Collection[str] = (),
        outlook: Outlook | None = None,
        same: Callable[[Codes], Codes] = lambda codes: codes,
        seed: int = 0,
    ) -> None:
        choices = choices_of(space, unordered)
        self._space = dict(space)
        self._initial = [self._codes(parameters) for parameters in initial]
        self._same = same
        self._seen: set[bytes] = set()
        self._taken: set[int] = set()
        self._otherwise = RandomSampler(seed=seed)
        self.expectation = Expectation(
            choices=choices,
            prices=prices if isinstance(prices, Prices) else Prices(quick=prices),
            damage=damage or positions(choices),
            goals=tuple(goals),
            uncompressed=np.asarray(uncompressed, dtype=float),
            outlook=outlook or Outlook(),
            seed=seed,
        )

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The space given, whatever was sampled before."""
        return self._space

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The parameters that promise most; none where nothing new is found: chance decides."""
        pending = self._learn(study, trial)
        while self._initial:
            codes = self._initial.pop(0)
            if self._is_new(codes):
                return self._parameters(codes)
        for codes in self._promising(pending):
            if self._is_new(codes):
                return self._parameters(codes)
        return {}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """A random value."""
        return self._otherwise.sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        """Takes other random numbers for what is left to chance."""
        self._otherwise.reseed_rng()

    def _promising(self, pending: Codes) -> Iterator[Codes]:
        return (codes for codes, _ in islice(self.expectation.best(pending), _FIRST))

    def _learn(self, study: Study, trial: FrozenTrial) -> Codes:
        """Takes the trials that are new, and gives the codes (m, k) of those that are out."""
        pending = []
        for other in study.get_trials(deepcopy=False):
            if other.number in self._taken or other.number == trial.number:
                continue
            if not self._space.keys() <= other.params.keys():
                continue
            codes = self._codes(other.params)
            self._seen.add(self._same(codes).tobytes())
            if other.state == TrialState.RUNNING:
                pending.append(codes)
                continue
            self._taken.add(other.number)
            if other.state == TrialState.COMPLETE:
                self.expectation.learn(codes, np.array(other.values, dtype=float))
        return np.array(pending, np.int64).reshape(-1, len(self._space))

    def _is_new(self, codes: Codes) -> bool:
        key = self._same(codes).tobytes()
        is_new = key not in self._seen
        self._seen.add(key)
        return is_new

    def _codes(self, parameters: Mapping[str, Any]) -> Codes:
        found = []
        for name, each in self._space.items():
            value = parameters[name]
            if isinstance(each, IntDistribution):
                found.append((int(value) - each.low) // each.step)
            else:
                found.append(int(each.to_internal_repr(value)))
        return np.array(found, np.int64)

    def _parameters(self, codes: Codes) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for (name, each), code in zip(self._space.items(), codes.tolist(), strict=True):
            if isinstance(each, IntDistribution):
                found[name] = each.low + code * each.step
            else:
                found[name] = each.to_external_repr(code)
        return found
