"""Which candidate of a discrete space is expected to add most to the front."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from paredown.search.config.qualities import quality_of
from paredown.search.proposing.improvement import expected_gain
from paredown.search.proposing.outlook import Outlook
from paredown.search.proposing.pareto.exploring import explore
from paredown.search.proposing.pareto.memory import Memory
from paredown.search.proposing.pareto.problem import Choices, Damage, Prices
from paredown.search.proposing.pareto.surrogate import Surrogate
from paredown.search.proposing.pareto.tables import Array, Codes
from paredown.search.study.evaluation import Goal
from paredown.search.study.pareto import non_dominated, volume_axes

_FIRST_GENERATIONS, _GENERATIONS, _NEXT_GENERATIONS = 30, 8, 4
"""Of the search on predictions: once, after something was learned, and within a batch."""
_RESERVE = 64
"""Of what was found, so many begin the next search."""
_GROWTH = 1.15
"""In number of evaluations, after which factors and amplitudes are learned anew."""
_FEWEST = 4
"""Evaluations below which there is nothing to learn them from."""
_EXACTLY = 8
"""Candidates of most gain that are priced exactly before one is picked."""
_OFF = 1e-2
"""Relative error of quick prices from which on they are."""

Models = Mapping[str, Surrogate]
"""What is believed of each quality, by its metric."""


@dataclass
class Expectation:
    """What is known of a space, and what is expected of the rest of it.

    Only the quality that is first among the goals counts as uncertain, costs are exact.

    Args:
        uncompressed: The goals' values (d,) of the model that damages are counted from. Nothing counts as
            better than it: scores that are, are so by luck.
        outlook: What later training gives back of the quality lost.
    """

    choices: Choices
    prices: Prices
    damage: Damage
    goals: tuple[Goal, ...]
    uncompressed: Array
    outlook: Outlook = field(default_factory=Outlook)
    seed: int = 0
    _memory: Memory = field(init=False)
    _models: dict[str, Surrogate] = field(init=False)
    _reserve: Codes = field(init=False)
    _learned: int = 0
    _refitted: int = 0
    _is_stale: bool = True
    _is_explored: bool = False
    _is_off: bool = False
    _front: Array = field(init=False)

    def __post_init__(self) -> None:
        slack = {
            goal.metric: quality_of(goal.metric, goal.direction).slack(float(value))
            for goal, value in zip(self.goals, self.uncompressed, strict=True)
            if not goal.is_cost
        }
        self._models = {m: Surrogate.prior(self.damage.kinds, s) for m, s in slack.items()}
        costs = len(self.goals) - len(slack)
        self._memory = Memory.empty(self.choices.count, len(slack), costs)
        self._reserve = np.zeros((1, self.choices.count), np.int64)
        self._front = volume_axes(self.uncompressed[None], self.goals)

    def learn(self, codes: Codes, values: Array) -> None:
        """Takes one evaluated candidate: codes (k,), the goals' values (d,)."""
        lost = np.array([goal.loss(values[i]) - self._origin(i) for i, goal in self._qualities])
        costs = values[self._is_cost]
        quick = self.prices.quick(codes[None])[0]
        self._is_off = self._is_off or bool(np.any(np.abs(quick - costs) > _OFF * np.abs(costs)))
        self._memory = self._memory.with_one(codes, lost, np.log(np.maximum(costs, 1e-12)))
        self._learned += 1
        self._is_stale = True

    def best(self, pending: Codes) -> Iterator[tuple[Codes, float]]:
        """Codes (k,) and the gain in hypervolume expected of them, the most promising first.

        Args:
            pending: (m, k), what is being evaluated: it counts as if it came as predicted.
        """
        rounds = _GENERATIONS if self._is_stale else _NEXT_GENERATIONS
        if self._is_stale:
            self._update()
        models, there = self._with(pending)

        def _worth(codes: Codes) -> Array:
            return self._gain(codes, self.prices.quick(codes), models, there)

        generator = np.random.default_rng((self.seed, self._learned, len(pending)))
        start = np.vstack([self._reserve, self._memory.codes])
        if not self._is_explored:
            rounds = _FIRST_GENERATIONS
        found, worths = explore(self.choices, start, _worth, generator, rounds)
        self._is_explored = True
        self._reserve = found[:_RESERVE]
        if self._is_off and self.prices.exact is not None:
            few = found[:_EXACTLY]
            exact = self._gain(few, self.prices.exact(few), models, there)
            order = np.argsort(-exact, kind="stable")
            found[:_EXACTLY], worths[:_EXACTLY] = few[order], exact[order]
        yield from zip(found, worths.tolist(), strict=True)

    def predict(self, metric: str, codes: Codes) -> tuple[Array, Array]:
        """Mean and deviation (n,) of what a score of that quality will have lost, noise included."""
        if self._is_stale:
            self._update()
        model = self._models[metric]
        mean, deviation = model.predict(self.damage.terms(codes))
        return mean, model.of_scores(mean, deviation)

    @property
    def _qualities(self) -> list[tuple[int, Goal]]:
        return [(i, goal) for i, goal in enumerate(self.goals) if not goal.is_cost]

    @property
    def _is_cost(self) -> list[bool]:
        return [goal.is_cost for goal in self.goals]

    def _origin(self, column: int) -> float:
        return self.goals[column].loss(float(self.uncompressed[column]))

    def _update(self) -> None:
        """Models of the qualities, and the front as it is believed to be."""
        self._is_stale = False
        memory = self._memory
        if len(memory) == 0:
            return
        damages = self.damage.terms(memory.codes)
        refit = self._learned >= max(_FEWEST, _GROWTH * self._refitted)
        values = np.empty((len(memory), len(self.goals)))
        values[:, self._is_cost] = np.exp(memory.costs)
        for place, (column, goal) in enumerate(self._qualities):
            lost = memory.lost[:, place]
            model = self._models[goal.metric].learning(damages, lost, refit)
            self._models[goal.metric] = model
            mean, _ = model.predict(damages)
            values[:, column] = self._after(column, mean)
        if refit:
            self._refitted = self._learned
        values = np.vstack([self.uncompressed, values])
        leads = non_dominated(values, [goal.direction for goal in self.goals])
        self._front = volume_axes(values[leads], self.goals)

    def _with(self, pending: Codes) -> tuple[Models, Array]:
        """Models and front once all that is pending came as predicted."""
        if not len(pending):
            return self._models, self._front
        points, _ = self._points(pending, self.prices.quick(pending), self._models)
        damages = self.damage.terms(pending)
        models = {}
        for metric, model in self._models.items():
            mean, _ = model.predict(damages)
            lost = np.concatenate([model.lost * model.slack, mean])
            models[metric] = model.learning(np.vstack([model.damages, damages]), lost, refit=False)
        return models, np.vstack([self._front, points])

    def _after(self, column: int, lost: Array) -> Array:
        """Values of a quality of which so much is lost before later training."""
        goal = self.goals[column]
        sign = -1.0 if goal.direction == "maximize" else 1.0
        return np.asarray(self.uncompressed[column] + sign * self.outlook.after(goal.metric, lost))

    def _points(self, codes: Codes, costs: Array, models: Models) -> tuple[Array, Array]:
        """Predicted points (n, d) in `volume_axes`, and the deviation (n,) of the first quality."""
        values = np.empty((len(codes), len(self.goals)))
        values[:, self._is_cost] = costs
        damages = self.damage.terms(codes)
        deviation = np.zeros(len(codes))
        for column, goal in reversed(self._qualities):
            mean, before = models[goal.metric].predict(damages)
            deviation = self.outlook.deviation(goal.metric, before)
            values[:, column] = self._after(column, mean)
        return volume_axes(values, self.goals), deviation

    def _gain(self, codes: Codes, costs: Array, models: Models, there: Array) -> Array:
        """Expected gain in hypervolume (n,); 0 for what has no price or breaks a bound on costs."""
        points, deviation = self._points(codes, costs, models)
        first = self._qualities[0][0]
        order = [first, *(i for i in range(len(self.goals)) if i != first)]
        gains = np.zeros(len(points))
        priced = np.isfinite(points).all(axis=1)
        gains[priced] = expected_gain(
            points[priced, first],
            deviation[priced],
            points[priced][:, order[1:]],
            there[:, order],
            self._worst()[order],
            volume_axes(self.uncompressed[None], self.goals)[0, first],
        )
        return gains

    def _worst(self) -> Array:
        """The worst point (d,) that counts: a quality's margin below the uncompressed model, its costs,
        each drawn in to the goal's bound."""
        values = self.uncompressed.copy()
        for column, goal in self._qualities:
            slack = self._models[goal.metric].slack
            values[column] += -slack if goal.direction == "maximize" else slack
        worst = volume_axes(values[None], self.goals)[0]
        for i, goal in enumerate(self.goals):
            bound = goal.at_least if goal.direction == "maximize" else goal.at_most
            if bound is not None:
                bounded = np.where(np.arange(len(values)) == i, bound, values)[None]
                worst[i] = min(worst[i], volume_axes(bounded, self.goals)[0, i])
        return worst
