"""Who climbs from rung to rung, and when that is decided: while the last of a rung are still out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from paredown.search.proposing.jobs import Job
from paredown.search.proposing.outlook import Outlook
from paredown.search.proposing.promoting.promotion import Promotion
from paredown.search.study.evaluation import UNCOMPRESSED, Evaluation, reference
from paredown.search.study.pareto import goals_on
from paredown.search.study.rung import Rung

_OVERLAP_SHARE = 4
"""Of so many trainings of a rung one may be out while it is decided what comes next."""


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
