"""An engine's work ends early by Ctrl-C, which asks no more, and by what keeps jobs from being done."""

import os
import signal

import pytest

from paredown.compressors.training.kept import KeepingError
from paredown.search.proposing.coordinator import Coordinator
from paredown.search.proposing.jobs import Job, Outcome
from paredown.search.running.working import INTERRUPTED, work
from paredown.search.study.evaluation import Evaluation
from paredown.search.study.rung import Rung
from paredown.spaces.candidates.candidate import Candidate

NOTHING = Outcome(score=None, failure=None, duration_s=0.0)


class OneByOne:
    """An engine whose second job meets what `second` says."""

    def __init__(self, second):
        self.second = second
        self.begun = 0

    def run(self, coordinator):
        while not coordinator.is_done:
            job = coordinator.next()
            if job is not None:
                self.begun += 1
                coordinator.finish(job, self.second() if self.begun == 2 else NOTHING)


def coordinated():
    told = []

    def tell(job, outcome):
        told.append(job)
        return Evaluation(number=len(told), key=job.candidate.key, candidate=job.candidate)

    first = [Job(candidate=Candidate.of(widths={"group": n})) for n in range(1, 5)]
    made = Coordinator(proposer=None, first=first, evaluations=4, batch=1, rung=Rung(), tell=tell)
    return made, told


def test_an_engine_carries_out_all_there_is():
    coordinator, told = coordinated()
    work(OneByOne(lambda: NOTHING), coordinator)
    assert len(told) == 4
    assert coordinator.stopped is None


def test_ctrl_c_asks_no_more_and_what_is_out_is_taken():
    def interrupted():
        os.kill(os.getpid(), signal.SIGINT)
        return NOTHING

    coordinator, told = coordinated()
    before = signal.getsignal(signal.SIGINT)
    work(OneByOne(interrupted), coordinator)
    assert len(told) == 2
    assert coordinator.stopped == INTERRUPTED
    assert signal.getsignal(signal.SIGINT) is before


def test_what_keeps_jobs_from_being_done_ends_the_search():
    coordinator, told = coordinated()
    obstacle = Outcome(score=None, failure=None, duration_s=0.0, obstacle="the disk is full")
    with pytest.raises(KeepingError, match="the disk is full"):
        work(OneByOne(lambda: obstacle), coordinator)
    assert len(told) == 1
