"""Decides what is evaluated next and keeps what came of it; engines only carry the jobs out.

Batches of fixed size are asked and recorded in asking order, so the same seed gives the same search
however many workers carry it out.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from paredown.search.proposing.jobs import Job, Outcome
from paredown.search.proposing.proposer import Proposer, SpaceExhausted
from paredown.search.study.evaluation import Evaluation, Failure, FailureKind, of_rung
from paredown.search.study.rung import Rung
from paredown.spaces.candidates.candidate import Candidate

Tell = Callable[[Job, Outcome], Evaluation]
"""Records the outcome (journal, front, tracking) and gives the evaluation back."""


MOST_TRIES = 3
"""Workers that may be lost over one training before that is a failure of its candidate."""
MOST_LOST = 3
"""Candidates that may fail so one after the other before an engine ends the search: what fails so often
is no candidate's fault."""
_WITH_THE_WORKER = (FailureKind.ENDED_PROCESS, FailureKind.WORKER_LOST)
"""Failures by which the worker is gone too: a process of this machine, or Ray's."""


class Engine(Protocol):
    """Carries the jobs of a coordinator out: in this machine's processes, on Ray, or otherwise.

    Every job comes back through `finish` each time that `next` gives it, whatever its candidate does.
    """

    def run(self, coordinator: Coordinator) -> None:
        """Works until the coordinator has nothing more to do.

        Raises:
            ValueError: What carries jobs out ended, time after time; the message says why.
        """


@dataclass
class Coordinator:
    """Jobs given first, all of them, then batches of proposals until `evaluations` are recorded.

    `told` counts evaluations of earlier sessions too. `stop` ends the asking; what is out is awaited.
    It may come from a signal handler, between any two steps of this class or of `tell`, so it notes the
    reason and changes nothing else.
    Candidates of the first jobs are never proposed, and one given twice is carried out once.
    With `ahead` above 0 the next batch is asked while so many jobs are still out: workers never idle, but
    the sampler then knows less when asked, and its answers depend on what finishes first.
    Proposals are scored on `rung`, and the proposer hears of no other.
    `enough` is asked with the number told before each batch: why no more is to be proposed, or None.
    `longest_s` is asked for each batch what a job of it may take.
    `obstacle` says why jobs cannot be carried out, once one was not: that one is not recorded, and no
    more are asked.
    `follow` gives the jobs that an evaluation leads to. It is asked in the order of recording, so what it
    answers does not depend on what finished first.
    `known` gives what an earlier session made of a job, which is then not carried out again.
    A training whose worker is lost is asked again, next of all, for another worker to go on from where
    it was saved; `again` is then notified. `lost_in_row` counts the candidates that failed with their
    workers since one was evaluated, `last_lost` is why the last of them did.
    """

    proposer: Proposer | None
    first: list[Job]
    evaluations: int
    batch: int
    rung: Rung
    tell: Tell
    told: int = 0
    ahead: int = 0
    enough: Callable[[int], str | None] = lambda _: None
    deadline_s: float | None = None
    longest_s: Callable[[], float | None] = lambda: None
    obstacle: str = ""
    follow: Callable[[Evaluation], Sequence[Job]] = lambda _: ()
    known: Callable[[Job], Evaluation | None] = lambda _: None
    again: Callable[[Job, Failure], None] = lambda _job, _failure: None
    lost_in_row: int = field(default=0, init=False)
    last_lost: str = field(default="", init=False)
    _losses: Counter[str] = field(default_factory=Counter)
    _reason: str | None = None
    _exhausted: str | None = None
    _queue: list[Job] = field(default_factory=list)
    _order: list[Job] = field(default_factory=list)
    _outcomes: dict[str, Outcome | Evaluation] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Outcomes are found by name, so a name must be out once.
        self.first = list({job.name: job for job in self.first}.values())
        if self.proposer is not None:
            self.proposer.expect(job.candidate.key for job in self.first)

    def next(self) -> Job | None:
        """A job to start now; None where one must wait for others, or `is_done`."""
        if self.deadline_s is not None and time.monotonic() > self.deadline_s:
            self.stop("the time budget is used up")
        if self.stopped is not None:
            return None
        if not self._queue and self._out <= self.ahead:
            self._fill()
        return self._queue.pop(0) if self._queue else None

    @property
    def is_done(self) -> bool:
        """Whether nothing is out and nothing will be asked."""
        waiting = [job for job in self._order if job.name not in self._outcomes]
        started = [job for job in waiting if job not in self._queue]
        if started:
            return False
        return self.stopped is not None or (not self._queue and not self._more())

    def stop(self, reason: str) -> None:
        """Ask no more, for the first reason given. Jobs that were never started are given up."""
        if self._reason is None:
            self._reason = reason

    @property
    def stopped(self) -> str | None:
        """Why no more is asked; None where all goes on, or went to its end."""
        if self._reason is None and not self._order:
            return self._exhausted
        return self._reason

    def finish(self, job: Job, outcome: Outcome) -> None:
        """Take an outcome; it is recorded as soon as all jobs asked before it have theirs."""
        if outcome.obstacle:
            self.obstacle = outcome.obstacle
            self.stop(outcome.obstacle)
            self._order.remove(job)
        elif outcome.failure is not None and outcome.failure.kind in _WITH_THE_WORKER:
            self._lose(job, outcome, outcome.failure)
        else:
            self.lost_in_row = 0
            self._outcomes[job.name] = outcome
        self._flush()

    def _lose(self, job: Job, outcome: Outcome, failure: Failure) -> None:
        self._losses[job.name] += 1
        if job.rung.recipe.steps and self._losses[job.name] < MOST_TRIES:
            self._queue.insert(0, job)
            self.again(job, failure)
            return
        self.lost_in_row += 1
        self.last_lost = failure.text
        self._outcomes[job.name] = outcome

    def replay(self, earlier: Iterable[Evaluation]) -> bool:
        """Ask for what an earlier session evaluated, and take each evaluation as it was recorded.

        Afterwards proposer and batch stand where that session stood, jobs of the last batch that
        it did not finish are next. False where something else is asked for: settings changed in
        between, or another engine asked earlier. This coordinator and its proposer are then of no
        more use.
        """
        for evaluation in earlier:
            job = self.next()
            if job is None or (job.candidate.key, job.rung) != (evaluation.key, evaluation.rung):
                return False
            self._order.remove(job)
            self._settle(evaluation)
        return True

    def _flush(self) -> None:
        while self._order and self._order[0].name in self._outcomes:
            job = self._order.pop(0)
            found = self._outcomes.pop(job.name)
            self._settle(found if isinstance(found, Evaluation) else self.tell(job, found))

    def _settle(self, evaluation: Evaluation) -> None:
        self.told += 1
        if self.proposer is not None and of_rung([evaluation], self.rung):
            self.proposer.learn(evaluation)
        self._ask(self.follow(evaluation))

    def _ask(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._order.append(job)
            evaluation = self.known(job)
            if evaluation is None:
                self._queue.append(job)
            else:
                self._outcomes[job.name] = evaluation

    @property
    def _out(self) -> int:
        """Jobs without an outcome; finished ones that wait for an earlier one to be recorded are in."""
        return sum(job.name not in self._outcomes for job in self._order)

    def _more(self) -> bool:
        return bool(self.first) or (self.proposer is not None and self._left > 0)

    @property
    def _left(self) -> int:
        return self.evaluations - self.told - len(self._order)

    def _fill(self) -> None:
        jobs: Sequence[Job] = self.first
        if self.first:
            self.first = []
        elif self.proposer is not None:
            jobs = self._propose(min(self.batch, self._left))
        longest_s = self.longest_s()
        self._ask([replace(job, longest_s=longest_s) for job in jobs])
        self._flush()

    def _propose(self, count: int) -> list[Job]:
        assert self.proposer is not None
        found: list[Candidate] = []
        ending = self.enough(self.told)
        try:
            while ending is None and len(found) < count:
                found.append(self.proposer.ask())
        except SpaceExhausted as reason:
            ending = str(reason)
        if ending is not None:
            self.evaluations = self.told + len(self._order) + len(found)
            # Named as the reason once everything that was found is recorded.
            self._exhausted = ending
        return [Job(candidate=candidate, rung=self.rung) for candidate in found]
