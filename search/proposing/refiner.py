"""The sampler "ladder": starts from predicted damage, then goes where most gain is expected.

It knows costs exactly, learns from every evaluation how far damages are wrong, and suggests of many
drawn candidates the one with the largest expected gain in hypervolume.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from paredown.search.evaluating.workbench import Workbench
from paredown.search.proposing.belief import believed_values, quality_models, with_loss
from paredown.search.proposing.improvement import expected_gain
from paredown.search.proposing.ladder import (
    HIGHEST,
    LOWEST,
    Ladder,
    Price,
    draw_ladders,
    uniform_settings,
    warm_start,
)
from paredown.search.proposing.outlook import Outlook
from paredown.search.proposing.prediction import DamageTerms, QualityModel
from paredown.search.proposing.rivals import least_harmful, unbeaten
from paredown.search.study.evaluation import Evaluation, Goal
from paredown.search.study.pareto import non_dominated, reference_point, volume_axes
from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.knobs.space import Space

_FEWEST = 8
"""Evaluations below which factors are guesses and another sampler proposes."""
_WARM_SHARE = 4
"""Of so many evaluations one is spent on the warm start."""
_DRAWN, _MUTATED = 96, 64
"""Candidates looked at for each batch: of the ladders, and neighbours of the front."""
_MOST_CHANGES = 3
_RIVAL_EVERY = 8
"""Of so many suggestions one is to beat a reference."""
_MARGIN = 0.1
"""How far beyond the dearest reference a cost still counts, as a logarithm."""
_NO_GAIN = 1e-6


@dataclass
class Refiner:
    """Suggests candidates; the first quality among the goals is what it learns to predict.

    Args:
        warm: Suggested first, in order.
        base: The uncompressed model's evaluation: quality lost is counted from it.
        price: Costs of a candidate, without building it, in the order of the goals that are costs.
        refused_by: The cost whose hard bound a candidate breaks; such ones are never suggested once
            there is something to learn from.
        reference: The point (d,) of `pareto.reference_point`.
        outlook: What training will give back of the quality lost.
    """

    space: Space
    goals: tuple[Goal, ...]
    ladders: Sequence[Ladder]
    terms: DamageTerms
    warm: list[Candidate]
    base: Evaluation
    price: Price
    refused_by: Callable[[Candidate], str | None]
    reference: np.ndarray
    outlook: Outlook = field(default_factory=Outlook)
    seed: int = 0
    _learned: list[Evaluation] = field(default_factory=list)
    _known: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    _pool: list[_Draft] = field(default_factory=list)
    _pool_after: int = -1
    _pending: dict[str, _Draft] = field(default_factory=dict)
    _models: Mapping[str, QualityModel] = field(default_factory=dict)
    _suggested: int = 0

    @classmethod
    def of(
        cls,
        workbench: Workbench,
        goals: tuple[Goal, ...],
        base: Evaluation,
        terms: DamageTerms,
        refused_by: Callable[[Candidate], str | None],
        outlook: Outlook,
    ) -> Refiner:
        """The refiner of a search, its warm start a quarter of the evaluations."""
        costs = [goal.metric for goal in goals if goal.is_cost]

        def _price(candidate: Candidate) -> np.ndarray | None:
            priced = workbench.costs(candidate, costs)
            return None if priced is None else np.array([priced[name] for name in costs])

        section = workbench.config.search
        ladders = draw_ladders(workbench.space.architectures, terms, _price) if costs else []
        return cls(
            space=workbench.space,
            goals=goals,
            ladders=ladders,
            terms=terms,
            warm=_warm(ladders, len(costs), section.evaluations // _WARM_SHARE),
            base=base,
            price=_price,
            refused_by=refused_by,
            reference=reference_point(goals, base, base),
            outlook=outlook,
            seed=section.seed,
        )

    def suggest(self, known: Collection[str]) -> Candidate | None:
        """A candidate whose key is not in `known`; None where another sampler should go on."""
        while self.warm:
            candidate = self.warm.pop(0)
            if candidate.key not in known and self.space.contains(candidate):
                return candidate
        if not self.qualities or not self.ladders or len(self._learned) < _FEWEST:
            return None
        if self._pool_after != len(self._learned):
            self._pool = self._draw_pool()
            self._pool_after = len(self._learned)
        self._suggested += 1
        chosen = None
        if self._suggested % _RIVAL_EVERY == 0:
            chosen = self._rival(known)
        chosen = chosen or self._most_gain(known)
        if chosen is None:
            return None
        self._pending[chosen.candidate.key] = chosen
        return chosen.candidate

    def expect(self, candidate: Candidate) -> None:
        """Nothing to note: what is out counts from the moment it is suggested here."""

    def learn(self, evaluation: Evaluation) -> None:
        """Takes an evaluation into what damages and gains are predicted from."""
        self._pending.pop(evaluation.key, None)
        if evaluation.is_failed:
            return
        self._learned.append(evaluation)
        if evaluation.kind == "reference":
            self._widen(evaluation)

    @property
    def qualities(self) -> list[Goal]:
        """The goals that are not costs, in order."""
        return [goal for goal in self.goals if not goal.is_cost]

    def _most_gain(self, known: Collection[str]) -> _Draft | None:
        pool = [draft for draft in self._pool if draft.candidate.key not in known]
        if not pool:
            return None
        gains = self._gains(pool)
        best = int(np.argmax(gains))
        return pool[best] if gains[best] >= _NO_GAIN else None

    def _rival(self, known: Collection[str]) -> _Draft | None:
        """Of each ladder's least harmful candidates within a reference's costs the best, as drawn."""
        references = unbeaten(self._learned, self.goals, self.base.key)
        if not references or not self._models:
            return None
        turn = self._suggested // _RIVAL_EVERY
        reference = references[turn % len(references)]
        costs = [goal.metric for goal in self.goals if goal.is_cost]
        limits = np.array([reference.metrics[name] for name in costs])
        model = self._models[self.qualities[0].metric]
        generator = np.random.default_rng((self.seed, len(self._learned), self._suggested))
        found = {}
        for ladder in self.ladders:
            factors = model.draw(generator)
            for direction in (*np.eye(len(costs)), np.full(len(costs), 1 / len(costs))):
                rival = least_harmful(
                    ladder, model.common * direction, factors, self.price, limits
                )
                if rival is not None and rival.key not in known:
                    found[rival.key] = rival
        drafts = self._predict(self._allowed(found.values()), self._models)
        quality = next(i for i, goal in enumerate(self.goals) if not goal.is_cost)
        return min(drafts, key=lambda draft: draft.point[quality], default=None)

    def _allowed(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        return [c for c in candidates if self.space.contains(c) and self.refused_by(c) is None]

    def _draw_pool(self) -> list[_Draft]:
        """Candidates at random prices under drawn factors, and neighbours of the front."""
        models = quality_models(self._learned, self.goals, self.base, self.terms)
        self._models = models if len(models) == len(self.qualities) else {}
        if not self._models:
            return []
        values = believed_values(
            self._learned, self.goals, self.base, self.terms, models, self.outlook
        )
        leading = non_dominated(values, [goal.direction for goal in self.goals])
        self._known = volume_axes(values[leading], self.goals)
        members = [e.candidate for e, leads in zip(self._learned, leading, strict=True) if leads]
        generator = np.random.default_rng((self.seed, len(self._learned)))
        drawn: dict[str, Candidate] = {}
        climbed = self._climb(models[self.qualities[0].metric], generator)
        for candidate in (*climbed, *self._mutate(members, generator)):
            drawn[candidate.key] = candidate
        return self._predict(self._allowed(drawn.values()), models)

    def _climb(self, model: QualityModel, generator: np.random.Generator) -> list[Candidate]:
        found = []
        costs = sum(goal.is_cost for goal in self.goals)
        for _ in range(_DRAWN):
            ladder = self.ladders[int(generator.integers(len(self.ladders)))]
            direction = generator.dirichlet(np.full(costs, 0.5))
            price = model.common * float(np.exp(generator.uniform(*np.log((LOWEST, HIGHEST)))))
            found.append(ladder.at(price * direction, model.draw(generator))[0])
        return found

    def _mutate(
        self, members: Sequence[Candidate], generator: np.random.Generator
    ) -> list[Candidate]:
        """Members of the front with one to three knobs set anew."""
        sizes = self.space.dimensions()
        members = [member for member in members if self.space.contains(member)]
        if not members or not sizes:
            return []
        found = []
        for _ in range(_MUTATED):
            member = members[int(generator.integers(len(members)))]
            parameters = self.space.encode(member)
            count = min(int(generator.integers(1, _MOST_CHANGES + 1)), len(sizes))
            for name in generator.choice(list(sizes), count, replace=False):
                parameters[str(name)] = int(generator.integers(sizes[str(name)]))
            found.append(self.space.decode(parameters))
        return found

    def _predict(
        self, candidates: Sequence[Candidate], models: Mapping[str, QualityModel]
    ) -> list[_Draft]:
        found = [(candidate, self.price(candidate)) for candidate in candidates]
        priced = [(candidate, costs) for candidate, costs in found if costs is not None]
        if not priced:
            return []
        candidates, costs = zip(*priced, strict=True)
        terms = [self.terms.of(candidate) for candidate in candidates]
        values = np.full((len(candidates), len(self.goals)), np.nan)
        values[:, [goal.is_cost for goal in self.goals]] = np.array(costs)
        deviation = np.zeros(len(candidates))
        for column, goal in reversed(list(enumerate(self.goals))):
            if not goal.is_cost:
                lost, before = models[goal.metric].predict(terms)
                deviation = self.outlook.deviation(goal.metric, before)
                after = self.outlook.after(goal.metric, lost)
                values[:, column] = with_loss(goal, self.base, after)
        points = volume_axes(values, self.goals)
        return [
            _Draft(candidate, point, float(each))
            for candidate, point, each in zip(candidates, points, deviation, strict=True)
        ]

    def _gains(self, pool: Sequence[_Draft]) -> np.ndarray:
        uncertain = next(i for i, goal in enumerate(self.goals) if not goal.is_cost)
        order = [uncertain, *(i for i in range(len(self.goals)) if i != uncertain)]
        # What is out counts as if it came as predicted, or one batch would ask for neighbours.
        there = np.vstack([self._known, *(draft.point for draft in self._pending.values())])
        points = np.array([draft.point for draft in pool])[:, order]
        deviation = np.array([draft.deviation for draft in pool])
        worst = self._worst()[order]
        return expected_gain(points[:, 0], deviation, points[:, 1:], there[:, order], worst)

    def _widen(self, reference: Evaluation) -> None:
        """Let costs up to a reference's count: what is small and slow must gain something too."""
        values = np.array([[reference.metrics[goal.metric] for goal in self.goals]])
        point = volume_axes(values, self.goals)[0]
        for i, goal in enumerate(self.goals):
            if goal.is_cost:
                self.reference[i] = max(self.reference[i], point[i] + _MARGIN)

    def _worst(self) -> np.ndarray:
        """The reference point, drawn in to the goals' bounds."""
        worst = self.reference.copy()
        for i, goal in enumerate(self.goals):
            bound = goal.at_least if goal.direction == "maximize" else goal.at_most
            if bound is not None:
                values = np.full((1, len(self.goals)), bound)
                worst[i] = min(worst[i], volume_axes(values, self.goals)[0, i])
        return worst


def _warm(ladders: Sequence[Ladder], costs: int, count: int) -> list[Candidate]:
    """Uniform settings, and candidates that predictions favour: half and half."""
    uniform = uniform_settings(ladders)[: count // 2]
    predicted = warm_start(ladders, costs, count - len(uniform))
    return list({c.key: c for c in (*uniform, *predicted)}.values())


@dataclass(frozen=True)
class _Draft:
    """A candidate before its evaluation: its predicted point in `volume_axes`, quality uncertain."""

    candidate: Candidate
    point: np.ndarray
    deviation: float
