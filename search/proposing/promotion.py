"""Which candidates climb to the next rung, and when: scored on the whole search split, or trained."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from paredown.search.config.qualities import quality_of
from paredown.search.proposing.belief import believed_values, quality_models
from paredown.search.proposing.improvement import expected_gain
from paredown.search.proposing.jobs import Job
from paredown.search.proposing.outlook import Outlook, pairs_of
from paredown.search.proposing.prediction import DamageTerms, QualityModel
from paredown.search.proposing.rivals import rivals_among, unbeaten
from paredown.search.study.evaluation import UNCOMPRESSED, Evaluation, Goal, reference
from paredown.search.study.pareto import goals_on, non_dominated_rank, volume_axes
from paredown.search.study.rung import Rung

_NEGLIGIBLE = 0.05
"""Of a quality's margin: half a point of accuracy."""
_RIVAL_SHARE = 10
"""Of so many candidates promoted, one more for each reference is promoted for beating it."""
_OVERLAP_SHARE = 4
"""Of so many trainings of a rung one may be out while it is decided what comes next."""


def leading(
    evaluations: Sequence[Evaluation],
    values: np.ndarray,
    goals: Sequence[Goal],
    count: int,
    taken: Collection[str] = (),
) -> list[Evaluation]:
    """At most `count` evaluations that together dominate most, greedily, then by rank and age.

    Greedy choice by hypervolume is within 1 - 1/e of the best subset (Guerreiro et al. 2016,
    doi:10.1162/EVCO_a_00188). The worst value of each goal is the reference, drawn out a little.

    Args:
        values: (n, d) of the goals, as they are believed to be; who breaks a bound is left out.
        taken: Keys of those among them that lead already, and which the others must add to.
    """
    met = np.array(
        [
            all(
                g.keeps_bounds({**e.metrics, g.metric: v}) for g, v in zip(goals, row, strict=True)
            )
            for e, row in zip(evaluations, values, strict=True)
        ],
        dtype=bool,
    )
    if not met.any():
        return []
    evaluations = [e for e, keep in zip(evaluations, met, strict=True) if keep]
    values = values[met]
    ranks = non_dominated_rank(values, [goal.direction for goal in goals])
    points = volume_axes(values, goals)
    reference = points.max(axis=0) + 0.1 * np.maximum(np.ptp(points, axis=0), 1e-9)
    order = sorted(range(len(points)), key=lambda i: (ranks[i], evaluations[i].number))
    chosen = [i for i, e in enumerate(evaluations) if e.key in taken]
    begun = len(chosen)
    while len(chosen) < min(begun + count, len(points)):
        gains = expected_gain(
            points[:, 0],
            np.zeros(len(points)),
            points[:, 1:],
            points[np.array(chosen, int)],
            reference,
        )
        best = int(np.argmax(gains))
        if gains[best] <= 1e-12:
            chosen += [i for i in order if i not in chosen][: begun + count - len(chosen)]
            break
        chosen.append(best)
    return [evaluations[i] for i in chosen[begun:]]


@dataclass(frozen=True)
class Promotion:
    """The successful evaluations of one rung, and who of them climbs.

    `prior` is what was expected of training before this search trained any.
    """

    first: Sequence[Evaluation]
    goals: tuple[Goal, ...]
    base: Evaluation
    terms: DamageTerms
    prior: Outlook = field(default_factory=Outlook)

    def outlook(self, after: Sequence[Evaluation] = ()) -> Outlook:
        """What training gives back at best, as far as those scored on the next rung show.

        At best, because a training is the way to find out.
        """
        return self.prior.learning(pairs_of([*self.first, *after], self.goals)).at_best

    @property
    def unharmed(self) -> frozenset[str]:
        """Keys of those that have nothing to recover from: scores that are off by luck alone."""
        goal = next((g for g in self.goals if not g.is_cost), None)
        if goal is None:
            return frozenset(e.key for e in self.first)
        whole = self.base.metrics[goal.metric]
        most = _NEGLIGIBLE * quality_of(goal.metric).slack(whole)
        lost = {e.key: goal.loss(e.metrics[goal.metric]) - goal.loss(whole) for e in self.first}
        return frozenset(key for key, each in lost.items() if each <= most)

    def leading(
        self, count: int, outlook: Outlook, left_out: Collection[str] = ()
    ) -> Collection[Evaluation]:
        """The references, what may beat them, and the `count` leading ones, but for keys `left_out`."""
        first, goals = self.first, self.goals
        if not first:
            return ()
        values = self._believed(outlook)
        left = [i for i, e in enumerate(first) if e.key not in left_out]
        first, values = [first[i] for i in left], values[left]
        promoted = {e.key: e for e in first if e.kind == "reference"}
        for each in unbeaten(first, goals, self.base.key):
            rivals = rivals_among(first, values, goals, each, count // _RIVAL_SHARE)
            promoted |= {e.key: e for e in rivals}
        promoted |= {e.key: e for e in leading(first, values, goals, count)}
        return promoted.values()

    def more(
        self,
        count: int,
        among: Collection[str],
        taken: Collection[str],
        after: Sequence[Evaluation],
    ) -> list[Evaluation]:
        """The `count` of those `among` by key that add most to those `taken`.

        What was scored on the next rung, `after`, is taken at what that score says against the
        uncompressed model's there; what was not, at what training is expected to make of it.
        """
        scores = {e.key: e.metrics for e in after if e.trained is not None}
        whole = reference(after, UNCOMPRESSED)
        values = self._believed(self.outlook(after))
        for row, each in zip(values, self.first, strict=True):
            if each.key in scores:
                row[:] = [
                    scores[each.key][goal.metric] + self._easier(goal, whole)
                    for goal in self.goals
                ]
        left = [i for i, e in enumerate(self.first) if e.key in among or e.key in taken]
        return leading([self.first[i] for i in left], values[left], self.goals, count, taken)

    def _easier(self, goal: Goal, there: Evaluation | None) -> float:
        """By how much this rung's rows flatter the uncompressed model against those where it is `there`."""
        if there is None or goal.is_cost:
            return 0.0
        return self.base.metrics[goal.metric] - there.metrics[goal.metric]

    def _believed(self, outlook: Outlook) -> np.ndarray:
        return believed_values(
            self.first, self.goals, self.base, self.terms, self._models, outlook
        )

    @functools.cached_property
    def _models(self) -> Mapping[str, QualityModel]:
        return quality_models(self.first, self.goals, self.base, self.terms)


@dataclass
class _Level:
    """One rung of training: how many candidates climb to it, who was asked for, and what came of them."""

    rung: Rung
    count: int
    asked: set[str] = field(default_factory=set)
    came: list[Evaluation] = field(default_factory=list)

    @property
    def overlap(self) -> int:
        """How many may be out while it is decided what comes next."""
        return max(1, self.count // _OVERLAP_SHARE)

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is out; more may come as long as a level below it is not over."""
        return len(self.came) == len(self.asked)

    @property
    def scored(self) -> list[Evaluation]:
        """Those that did not fail."""
        return [e for e in self.came if not e.is_failed]


class Ascent:
    """From rung to rung: which candidates of the first one climb, and when that is decided.

    Half of those that climb to the first rung of training do so at once, by what training is expected to
    give back. Each of the others follows from what training made of the ones before. The decision is
    taken while the last quarter of a rung is out, and likewise what climbs to the next rung: of so many
    places as are left for those that are out, none is given away. So workers need not wait for the end
    of a rung, and decisions follow from what came in the order of asking, whatever ended first.

    Args:
        first: Promotion from the first rung.
        rungs: Those after it, in order.
        kept: How many of so many candidates climb to a rung, references apart.
    """

    def __init__(
        self, first: Promotion, rungs: Sequence[Rung], kept: Callable[[int, Rung], int]
    ) -> None:
        self._first = first
        self._rungs = rungs
        self._aside: list[Evaluation] = []
        self._levels: list[_Level] = []
        self._harmed: frozenset[str] = frozenset()
        self._kept = kept

    def begin(self) -> list[Job]:
        """The jobs that come first.

        What has lost nothing has nothing to recover from, and stands beside trained models as it is;
        references do so too.
        """
        first, rung = self._first, self._rungs[0]
        count = self._kept(len(first.first), rung)
        if not rung.recipe.is_trained:
            return [_job(e, rung) for e in first.leading(count, Outlook())]
        unharmed = first.unharmed
        self._harmed = frozenset(e.key for e in first.first if e.kind == "search") - unharmed
        # References come on top.
        more = sum(e.kind == "reference" for e in first.first)
        harmed = {e.key for e in first.first} - unharmed
        whole = first.leading(count + more, Outlook(), harmed)
        half = first.leading((count + 1) // 2, first.outlook(), unharmed)
        trained = {e.key for e in half if e.kind == "search"}
        most = min(len(trained) + count // 2, len(self._harmed))
        self._levels.append(_Level(rung, most, trained))
        for higher in self._rungs[1:]:
            most = min(most, self._kept(most, higher))
            self._levels.append(_Level(higher, most))
        return [_job(e, rung.untrained) for e in whole] + [_job(e, rung) for e in half]

    @property
    def coming(self) -> int:
        """At most so many more will climb."""
        return sum(level.count - len(level.asked) for level in self._levels)

    @property
    def over(self) -> Rung | None:
        """The highest rung that is over, of those that something was trained on; None before any."""
        ended = itertools.takewhile(lambda level: level.asked and level.is_over, self._levels)
        return max((level.rung for level in ended), key=lambda rung: rung.number, default=None)

    def follow(self, evaluation: Evaluation) -> list[Job]:
        """The jobs that an evaluation leads to."""
        number = evaluation.rung.number
        level = next((each for each in self._levels if each.rung.number == number), None)
        if level is None or evaluation.key not in level.asked:
            self._aside.append(evaluation)
            return []
        level.came.append(evaluation)
        return [*self._recovering(), *self._climbing()]

    def _recovering(self) -> list[Job]:
        """More of the first rung to train, by what came of those that were."""
        level = self._levels[0]
        wanted = min(level.count, len(level.came) + level.overlap) - len(level.asked)
        if wanted <= 0:
            return []
        after = [e for e in (*self._aside, *level.came) if not e.is_failed]
        return self._asked(
            level, self._first.more(wanted, self._harmed - level.asked, level.asked, after)
        )

    def _climbing(self) -> list[Job]:
        """Who climbs from each rung of training to the next, of those that came."""
        jobs: list[Job] = []
        is_over = True
        for below, level in itertools.pairwise(self._levels):
            is_over = is_over and below.is_over
            left = 0 if is_over else below.count - len(below.came)
            wanted = level.count - left - len(level.asked)
            if left <= below.overlap and wanted > 0:
                promotion = self._further(below)
                among = {e.key for e in below.scored}
                jobs += self._asked(level, promotion.more(wanted, among, level.asked, ()))
        return jobs

    def _further(self, below: _Level) -> Promotion:
        """Promotion from a rung of training: bounds and losses are those on its rows."""
        known = [self._first.base, *self._aside]
        goals = goals_on(below.rung, known, self._first.goals)
        return replace(
            self._first,
            first=below.scored,
            goals=goals,
            base=reference(self._aside, UNCOMPRESSED) or self._first.base,
            prior=Outlook.of_training_further(goals),
        )

    def _asked(self, level: _Level, promoted: Sequence[Evaluation]) -> list[Job]:
        level.asked |= {e.key for e in promoted}
        return [_job(e, level.rung) for e in promoted]


def _job(evaluation: Evaluation, rung: Rung) -> Job:
    """The candidate on a rung; references are not trained: they are what anybody gets for nothing."""
    return Job(
        candidate=evaluation.candidate,
        kind=evaluation.kind,
        label=evaluation.label,
        rung=rung.untrained if evaluation.kind == "reference" else rung,
        begins=evaluation.trained or "",
    )
