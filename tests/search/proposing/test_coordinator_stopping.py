"""A search that is stopped asks no more, and records in order all that was started."""

import inspect
import sys
from pathlib import Path

import pytest

from paredown.search.proposing import coordinator as coordinating
from paredown.search.proposing.coordinator import Job
from paredown.search.study.rung import Rung


def test_stopping_gives_up_what_was_not_started_and_awaits_what_was(
    counting, kept, coordinate, done
):
    told = kept()
    coordinator = coordinate(counting(), told)
    first, second = coordinator.next(), coordinator.next()
    coordinator.finish(second, done)
    coordinator.stop("enough")
    assert coordinator.next() is None
    assert not coordinator.is_done, "the first job is still out"
    coordinator.finish(first, done)
    assert told == [first, second]
    assert coordinator.is_done
    coordinator.stop("again")
    assert coordinator.stopped == "enough"


def test_stopping_before_anything_started_ends_at_once(counting, kept, coordinate):
    told = kept()
    coordinator = coordinate(counting(), told)
    coordinator.stop("enough")
    assert coordinator.is_done
    assert coordinator.next() is None
    assert told == []


class Interrupting:
    """Runs a function once, before the bytecode of that number in the coordinator's file or ours."""

    def __init__(self, at, do):
        self.left, self.do = at, do

    def __call__(self, frame, event, _):
        if frame.f_code.co_filename not in WATCHED:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.left -= 1
            if self.left == 0:
                # As a signal handler does: other code of this thread waits until it returns.
                sys.settrace(None)
                self.do()
        return self


WATCHED = {inspect.getfile(coordinating), __file__, str(Path(__file__).with_name("conftest.py"))}


@pytest.mark.parametrize("size", [3, 1000])
def test_a_stop_between_any_two_bytecodes_tells_once_and_in_order_what_was_started(
    size, counting, kept, coordinate, done, candidate
):
    at, was_reached = 0, True
    while was_reached:
        at += 1
        told, started = kept(), []
        proposer = counting(size)
        given = [Job(candidate=candidate(100), kind="reference", rung=Rung(rows=7))]
        coordinator = coordinate(proposer, told, first=given, evaluations=4, batch=2, ahead=1)
        interrupting = Interrupting(at, lambda c=coordinator: c.stop("interrupted"))
        sys.settrace(interrupting)
        try:
            # Two out at a time, and the first comes back last.
            while not coordinator.is_done and len(started) < 20:
                out = [job for _ in range(2) if (job := coordinator.next()) is not None]
                started += out
                for job in reversed(out):
                    coordinator.finish(job, done)
        finally:
            sys.settrace(None)
        was_reached = interrupting.left <= 0
        assert told == started
        assert proposer.heard == [job.candidate.key for job in started]
        assert coordinator.is_done
        assert coordinator.next() is None
        if was_reached:
            assert coordinator.stopped == "interrupted"
    assert at > 500, "the search must have been watched"


def test_a_stop_from_within_the_telling_ends_the_asking_alone(counting, kept, coordinate, done):
    told = kept()
    depth, deepest = 0, 0

    def tell(job, outcome):
        nonlocal depth, deepest
        depth += 1
        deepest = max(deepest, depth)
        coordinator.stop("interrupted")
        evaluation = told(job, outcome)
        depth -= 1
        return evaluation

    coordinator = coordinate(counting(), tell)
    jobs = [coordinator.next() for _ in range(3)]
    for job in reversed(jobs):
        coordinator.finish(job, done)
    assert told == jobs
    assert deepest == 1, "a record must be whole before the next begins"
    assert coordinator.is_done
    assert coordinator.stopped == "interrupted"


def test_a_past_deadline_ends_the_asking_and_names_the_budget(counting, kept, coordinate):
    coordinator = coordinate(counting(), kept(), deadline_s=0.0)
    assert coordinator.next() is None
    assert coordinator.is_done
    assert "time budget" in coordinator.stopped
