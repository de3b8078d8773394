"""Prices and predictions of a front's models with decisions put back, one by one and together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from paredown.search.proposing.damage_terms import DamageTerms
from paredown.search.proposing.explaining.decisions import PARTS, Decision, decisions_of, put_back
from paredown.search.proposing.explaining.explanation import (
    SHOWN,
    Explanation,
    Importance,
    Lost,
    Member,
    Step,
    Worth,
)
from paredown.search.proposing.pareto.of_search import Costs
from paredown.search.proposing.promoting.belief import QualityModel, quality_models
from paredown.search.study.display import name_of
from paredown.search.study.evaluation import UNCOMPRESSED, Evaluation, Goal, reference
from paredown.search.study.pareto import Front
from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.knobs.space import Space

_MOST_EACH, _MOST = 40, 600
"""Decisions that are priced one by one, of a model and of a front: about 10 ms each."""
_NOTHING = 1e-3
"""Of a cost's logarithm and of a quality's margin, for each model: what no shares are of."""


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """A model with `undone` decided, and the same without."""

    what: str
    choice: str
    chosen: Candidate
    without: Candidate
    undone: tuple[Decision, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Weighed:
    """One model of the front explained, and what its decisions of each part are worth together."""

    member: Member
    parts: tuple[Worth, ...]


class Explainer:
    """Explains the fronts of one search; each candidate is priced once."""

    def __init__(self, space: Space, terms: DamageTerms, costs: Costs) -> None:
        self._space = space
        self._terms = terms
        self._costs = costs
        self._decisions = {each.name: decisions_of(each) for each in space.architectures}
        self._priced: dict[str, Mapping[str, float]] = {}

    def explain(self, first: Sequence[Evaluation], front: Front) -> Explanation | None:
        """The front explained; None where no quality is among the goals, or no damage is predicted.

        Args:
            first: The evaluations of the first rung, failed ones among them.
        """
        scored = [e for e in first if not e.is_failed]
        base = reference(scored, UNCOMPRESSED)
        if base is None or all(goal.is_cost for goal in front.goals):
            return None
        models = quality_models(scored, front.goals, base, self._terms)
        if not models:
            return None
        aim = front.goals[0]
        ordered = sorted(front.members, key=lambda m: aim.loss(m.metrics[aim.metric]))
        single = self._singled_out([member.candidate for member in ordered])
        weighing = _Weighing(front.goals, models, self._terms, self._price)
        weighed = [self._weighed(m, single[m.candidate.architecture], weighing) for m in ordered]
        members = tuple(each.member for each in weighed)
        shares = _Shares(front.goals, models, [member.total for member in members])
        return Explanation(
            goals=front.goals,
            members=members,
            parts=shares.importances([each.parts for each in weighed]),
            decisions=shares.importances([member.decisions for member in members]),
            steps=tuple(
                self._step(one, other, front.goals) for one, other in itertools.pairwise(ordered)
            ),
            evaluations=len(scored),
            is_trained=any(member.trained is not None for member in ordered),
        )

    def _price(self, candidate: Candidate, names: Sequence[str]) -> Mapping[str, float]:
        """Costs by name; empty where there is no price."""
        if candidate.key not in self._priced:
            self._priced[candidate.key] = (self._costs(candidate, names) if names else {}) or {}
        return self._priced[candidate.key]

    def _singled_out(self, candidates: Sequence[Candidate]) -> dict[str, tuple[Decision, ...]]:
        """By architecture the decisions to look at one by one: the largest that any of them takes."""
        most = min(_MOST_EACH, max(1, _MOST // max(1, len(candidates))))
        found = {}
        for name, decisions in self._decisions.items():
            own = [c for c in candidates if c.architecture == name]
            taken = [d for d in decisions if any(d.text(c) for c in own)]
            found[name] = tuple(sorted(taken, key=lambda d: -d.weights)[:most])
        return found

    def _weighed(
        self, evaluation: Evaluation, singled_out: Sequence[Decision], weighing: _Weighing
    ) -> _Weighed:
        candidate = evaluation.candidate
        taken = [d for d in self._decisions[candidate.architecture] if d.text(candidate)]
        single = [
            pair
            for decision in singled_out
            if (choice := decision.text(candidate))
            for pair in self._undone(decision.label, choice, candidate, [decision])
        ]
        parts = [
            pair
            for part, title in PARTS.items()
            if (own := [decision for decision in taken if decision.part == part])
            for pair in self._undone(title, f"{len(own)} decisions", candidate, own)
        ]
        network = self._network(candidate)
        worths = weighing.worths([*single, *network])
        order = sorted(range(len(worths)), key=lambda i: -worths[i].size)
        first = {d for i in order[:SHOWN] for d in [*single, *network][i].undone}
        others = [d for d in taken if d not in first]
        rest = self._undone(f"{len(others)} others", "put back at once", candidate, others)
        *together, total = weighing.worths(
            [*parts, *network, *rest, self._total(candidate)],
        )
        count = len(parts) + len(network)
        member = Member(
            key=evaluation.key,
            name=name_of(evaluation),
            decisions=tuple(worths[i] for i in order),
            rest=next(iter(together[count:]), None),
            total=total,
        )
        return _Weighed(member=member, parts=tuple(together[:count]))

    def _undone(
        self, what: str, choice: str, candidate: Candidate, undone: Sequence[Decision]
    ) -> list[_Pair]:
        """None where the other decisions lead to the same model without these."""
        architecture = self._space.by_name[candidate.architecture]
        left = put_back(architecture, candidate, undone)
        if left == candidate:
            return []
        return [
            _Pair(what=what, choice=choice, chosen=candidate, without=left, undone=tuple(undone))
        ]

    def _network(self, candidate: Candidate) -> list[_Pair]:
        """Another network than the first, both uncompressed."""
        whole = self._whole
        if candidate.architecture == whole.architecture:
            return []
        plain = Candidate(architecture=candidate.architecture)
        what = PARTS["architectures"]
        return [_Pair(what=what, choice=candidate.architecture, chosen=plain, without=whole)]

    def _total(self, candidate: Candidate) -> _Pair:
        return _Pair(
            what="all decisions",
            choice="against the uncompressed model",
            chosen=candidate,
            without=self._whole,
        )

    @property
    def _whole(self) -> Candidate:
        return Candidate(architecture=self._space.architectures[0].name)

    def _step(self, one: Evaluation, other: Evaluation, goals: Sequence[Goal]) -> Step:
        before, after = one.candidate, other.candidate
        if before.architecture != after.architecture:
            changes = [f"network {before.architecture} → {after.architecture}"]
        else:
            own = self._decisions[before.architecture]
            changes = [f"{d.name}: {text}" for d in own if (text := d.change(before, after))]
        return Step(
            first=name_of(one),
            second=name_of(other),
            changes=tuple(changes),
            values={g.metric: (one.metrics[g.metric], other.metrics[g.metric]) for g in goals},
        )


@dataclass(frozen=True)
class _Weighing:
    """What a decision is worth in these goals, by exact prices and learned qualities."""

    goals: Sequence[Goal]
    models: Mapping[str, QualityModel]
    terms: DamageTerms
    price: Callable[[Candidate, Sequence[str]], Mapping[str, float]]

    def worths(self, pairs: Sequence[_Pair]) -> list[Worth]:
        """What all of these are worth."""
        if not pairs:
            return []
        chosen = [self.terms.of(pair.chosen) for pair in pairs]
        without = [self.terms.of(pair.without) for pair in pairs]
        lost = {metric: model.between(chosen, without) for metric, model in self.models.items()}
        return [
            self._worth(
                pair, {m: Lost(float(x[i]), float(off[i])) for m, (x, off) in lost.items()}
            )
            for i, pair in enumerate(pairs)
        ]

    def _worth(self, pair: _Pair, lost: Mapping[str, Lost]) -> Worth:
        names = [goal.metric for goal in self.goals if goal.is_cost]
        paid, whole = self.price(pair.chosen, names), self.price(pair.without, names)
        known = [name for name in names if name in paid and name in whole]
        growth = {n: whole[n] / paid[n] for n in known if paid[n] > 0 and whole[n] > 0}
        size = sum(abs(math.log(factor)) for factor in growth.values())
        size += sum(abs(each.mean) / self.models[m].slack for m, each in lost.items())
        return Worth(
            what=pair.what,
            choice=pair.choice,
            bought={name: whole[name] - paid[name] for name in known},
            growth=growth,
            lost=lost,
            size=size,
        )


@dataclass(frozen=True)
class _Shares:
    """Shares of what all models of a front together save and lose, which `totals` say of each."""

    goals: Sequence[Goal]
    models: Mapping[str, QualityModel]
    totals: Sequence[Worth]

    def importances(self, worths: Iterable[Sequence[Worth]]) -> tuple[Importance, ...]:
        """One for everything that any model decides, the most important first.

        Args:
            worths: Of each model.
        """
        by_name: dict[str, list[Worth]] = {}
        for each in worths:
            for worth in each:
                by_name.setdefault(worth.what, []).append(worth)
        found = [self._importance(what, own) for what, own in by_name.items()]
        return tuple(sorted(found, key=lambda importance: -importance.size))

    def _importance(self, what: str, own: Sequence[Worth]) -> Importance:
        share: dict[str, float | None] = {}
        growth: dict[str, float] = {}
        for goal in self.goals:
            part, whole = self._sum(goal, own), self._sum(goal, self.totals)
            unit = self.models[goal.metric].slack if goal.metric in self.models else 1.0
            is_nothing = whole <= _NOTHING * unit * len(self.totals)
            share[goal.metric] = None if is_nothing else part / whole
            if goal.is_cost:
                growth[goal.metric] = math.exp(part / len(self.totals))
        return Importance(what=what, share=share, growth=growth)

    @staticmethod
    def _sum(goal: Goal, worths: Sequence[Worth]) -> float:
        """Of logarithms of a cost's growth, or of a quality lost."""
        if goal.is_cost:
            return sum(math.log(worth.growth.get(goal.metric, 1.0)) for worth in worths)
        return sum(worth.lost[goal.metric].mean for worth in worths)
