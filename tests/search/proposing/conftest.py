"""A coordinator with a proposer that counts and a ledger that keeps, for the tests of coordinators."""

import random

import pytest

from paredown.search.proposing.coordinator import Coordinator, Outcome
from paredown.search.proposing.proposer import SpaceExhausted
from paredown.search.study.evaluation import Evaluation, Score
from paredown.search.study.rung import Rung
from paredown.spaces.candidates.candidate import Candidate

DONE = Outcome(score=Score(metric=0.5, loss=1.0, images=10), failure=None, duration_s=0.1)


def candidate(number):
    return Candidate.of(widths={"group": number})


class Counting:
    """A proposer of `size` candidates that records what it is notified of."""

    def __init__(self, size=1000):
        self.asked = 0
        self.size = size
        self.heard = []

    def ask(self):
        if self.asked == self.size:
            raise SpaceExhausted("the space is exhausted")
        self.asked += 1
        return candidate(self.asked)

    def expect(self, keys):
        self.expected = list(keys)

    def learn(self, evaluation):
        self.heard.append(evaluation.key)


class Kept(list):
    """Keeps the jobs told, as a ledger would."""

    def __call__(self, job, outcome):
        self.append(job)
        key = job.candidate.key
        return Evaluation(number=len(self) - 1, key=key, candidate=job.candidate, rung=job.rung)

    @property
    def widths(self):
        return [dict(job.candidate.widths)["group"] for job in self]


def coordinate(proposer, tell, **changed):
    settings = {"first": [], "evaluations": 12, "batch": 4, "rung": Rung(rows=7), **changed}
    return Coordinator(proposer=proposer, tell=tell, **settings)


def carry_out(coordinator, workers, seed=0):
    """Finishes running jobs in random order with `workers` slots; the most that ran at once."""
    rng = random.Random(seed)
    running = []
    most = 0
    while not coordinator.is_done:
        while len(running) < workers and (job := coordinator.next()) is not None:
            running.append(job)
        most = max(most, len(running))
        assert running or coordinator.is_done, "nothing runs, nothing is offered, yet not done"
        if running:
            coordinator.finish(running.pop(rng.randrange(len(running))), DONE)
    assert not running
    return most


@pytest.fixture(name="candidate")
def _candidate():
    """(number) -> a candidate of its own."""
    return candidate


@pytest.fixture(name="counting")
def _counting():
    """(size) -> a proposer."""
    return Counting


@pytest.fixture(name="kept")
def _kept():
    """() -> a list of jobs that is told of them."""
    return Kept


@pytest.fixture(name="coordinate")
def _coordinate():
    """(proposer, tell, settings) -> a coordinator."""
    return coordinate


@pytest.fixture(name="carry_out")
def _carry_out():
    """(coordinator, workers, seed) -> the most jobs that ran at once."""
    return carry_out


@pytest.fixture
def done():
    """What comes of a job."""
    return DONE
