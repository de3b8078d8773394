"""Jobs are told in asking order, whatever the order they finish in."""

import inspect
import random
import sys
from dataclasses import replace

import pytest

from paredown.search.proposing import coordinator as coordinating
from paredown.search.proposing.coordinator import Coordinator, Job, Outcome
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


def test_jobs_are_told_in_asking_order_whatever_the_finishing_order_and_workers():
    for workers in (1, 2, 3, 8):
        for seed in range(5):
            proposer, told = Counting(), Kept()
            most = carry_out(coordinate(proposer, told), workers, seed)
            assert told.widths == list(range(1, 13))
            assert proposer.heard == [candidate(n).key for n in range(1, 13)]
            assert most == min(workers, 4)


def test_a_late_first_job_holds_back_what_finished_after_it():
    told = Kept()
    coordinator = coordinate(Counting(), told)
    jobs = [coordinator.next() for _ in range(4)]
    for job in jobs[1:]:
        coordinator.finish(job, DONE)
    assert told == []
    assert coordinator.next() is None, "the next batch waits for the whole of this one"
    assert not coordinator.is_done
    coordinator.finish(jobs[0], DONE)
    assert told == jobs
    assert coordinator.told == 4


def test_given_jobs_come_before_any_proposal_and_count():
    proposer, told = Counting(), Kept()
    given = [Job(candidate=candidate(100 + i), kind="reference") for i in range(2)]
    carry_out(coordinate(proposer, told, first=list(given), evaluations=7), workers=2)
    assert told[:2] == given
    assert told.widths[2:] == [1, 2, 3, 4, 5]


def test_the_proposer_hears_of_given_candidates_before_it_is_asked():
    proposer = Counting()
    given = [Job(candidate=candidate(100 + i), kind="reference") for i in range(2)]
    coordinate(proposer, Kept(), first=list(given))
    assert proposer.expected == [job.candidate.key for job in given]
    assert proposer.asked == 0


def test_a_job_that_is_given_twice_is_carried_out_once_and_nothing_hangs():
    told = Kept()
    given = [Job(candidate=candidate(i)) for i in (1, 2, 1)]
    carry_out(coordinate(None, told, first=given, evaluations=3), workers=3)
    assert told.widths == [1, 2]


@pytest.mark.parametrize("ahead", [0, 2])
@pytest.mark.parametrize("evaluations", [1, 2, 3, 4])
def test_given_jobs_are_all_carried_out_and_nothing_beyond_the_total_is_proposed(
    evaluations, ahead
):
    proposer, told = Counting(), Kept()
    given = [Job(candidate=candidate(100 + i), kind="reference") for i in range(2)]
    # One was told before: the uncompressed model.
    settings = {"first": list(given), "evaluations": evaluations, "told": 1, "ahead": ahead}
    coordinator = coordinate(proposer, told, **settings)
    carry_out(coordinator, workers=2)
    assert told[:2] == given
    assert coordinator.told == max(3, evaluations)
    assert proposer.asked == max(0, evaluations - 3)
    assert coordinator.stopped is None


def test_proposals_carry_the_rows_of_the_rung_and_the_last_batch_is_cut_short():
    proposer, told = Counting(), Kept()
    carry_out(coordinate(proposer, told, evaluations=6), workers=1)
    assert {job.rung for job in told} == {Rung(rows=7)}
    assert proposer.asked == 6


def test_evaluations_of_earlier_sittings_count_towards_the_total():
    proposer, told = Counting(), Kept()
    carry_out(coordinate(proposer, told, evaluations=10, told=7), workers=2)
    assert proposer.asked == 3
    assert coordinate(Counting(), Kept(), evaluations=10, told=10).is_done


def test_stopping_gives_up_what_was_not_started_and_awaits_what_was():
    told = Kept()
    coordinator = coordinate(Counting(), told)
    first, second = coordinator.next(), coordinator.next()
    coordinator.finish(second, DONE)
    coordinator.stop("enough")
    assert coordinator.next() is None
    assert not coordinator.is_done, "the first job is still out"
    coordinator.finish(first, DONE)
    assert told == [first, second]
    assert coordinator.is_done
    coordinator.stop("again")
    assert coordinator.stopped == "enough"


def test_stopping_before_anything_started_ends_at_once():
    told = Kept()
    coordinator = coordinate(Counting(), told)
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


WATCHED = {inspect.getfile(coordinating), __file__}


@pytest.mark.parametrize("size", [3, 1000])
def test_a_stop_between_any_two_bytecodes_tells_once_and_in_order_what_was_started(size):
    at, was_reached = 0, True
    while was_reached:
        at += 1
        told, started = Kept(), []
        proposer = Counting(size)
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
                    coordinator.finish(job, DONE)
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


def test_a_stop_from_within_the_telling_ends_the_asking_alone():
    told = Kept()
    depth, deepest = 0, 0

    def tell(job, outcome):
        nonlocal depth, deepest
        depth += 1
        deepest = max(deepest, depth)
        coordinator.stop("interrupted")
        evaluation = told(job, outcome)
        depth -= 1
        return evaluation

    coordinator = coordinate(Counting(), tell)
    jobs = [coordinator.next() for _ in range(3)]
    for job in reversed(jobs):
        coordinator.finish(job, DONE)
    assert told == jobs
    assert deepest == 1, "a record must be whole before the next begins"
    assert coordinator.is_done
    assert coordinator.stopped == "interrupted"


def test_a_past_deadline_ends_the_asking_and_names_the_budget():
    coordinator = coordinate(Counting(), Kept(), deadline_s=0.0)
    assert coordinator.next() is None
    assert coordinator.is_done
    assert "time budget" in coordinator.stopped


def test_an_exhausted_space_ends_with_what_there_was_and_says_so():
    told = Kept()
    coordinator = coordinate(Counting(size=6), told)
    carry_out(coordinator, workers=2)
    assert told.widths == [1, 2, 3, 4, 5, 6]
    assert coordinator.stopped == "the space is exhausted"


def test_enough_ends_the_asking_once_all_that_is_out_is_told():
    told, asked = Kept(), []

    def enough(count):
        asked.append(count)
        return "that is enough" if count >= 8 else None

    coordinator = coordinate(Counting(), told, evaluations=100, enough=enough)
    carry_out(coordinator, workers=3)
    assert told.widths == [1, 2, 3, 4, 5, 6, 7, 8]
    assert asked == [0, 4, 8]
    assert coordinator.stopped == "that is enough"


def test_asking_ahead_keeps_workers_busy_and_still_tells_in_asking_order():
    for seed in range(5):
        proposer, told = Counting(), Kept()
        coordinator = coordinate(proposer, told, ahead=2, evaluations=11)
        jobs = [coordinator.next() for _ in range(4)]
        for job in jobs[:2]:
            coordinator.finish(job, DONE)
        fifth = coordinator.next()
        assert fifth is not None, "two are out: the next batch is asked"
        for job in (fifth, *jobs[2:]):
            coordinator.finish(job, DONE)
        carry_out(coordinator, workers=3, seed=seed)
        assert told.widths == list(range(1, 12))
        assert proposer.asked == 11


def test_asking_ahead_of_an_exhausted_space_loses_no_job():
    told = Kept()
    coordinator = coordinate(Counting(size=4), told, ahead=3)
    carry_out(coordinator, workers=4)
    assert told.widths == [1, 2, 3, 4]
    assert coordinator.stopped == "the space is exhausted"


def test_without_a_proposer_the_given_jobs_are_all():
    told = Kept()
    given = [Job(candidate=candidate(i), rung=Rung(number=1)) for i in range(3)]
    carry_out(coordinate(None, told, first=list(given), evaluations=3), workers=2)
    assert told == given
    assert coordinate(None, Kept(), evaluations=0).is_done


def doubled(evaluation):
    """The job that a job of the first rung leads to."""
    return [Job(candidate=evaluation.candidate, rung=Rung(number=1))][evaluation.rung.number :]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_what_follows_an_evaluation_is_asked_in_the_order_of_telling(workers):
    given = [Job(candidate=candidate(i)) for i in range(4)]
    for seed in range(5):
        told = Kept()
        carry_out(coordinate(None, told, first=list(given), follow=doubled), workers, seed)
        assert told.widths == [0, 1, 2, 3] * 2
        assert [job.rung.number for job in told] == [0] * 4 + [1] * 4


def test_what_follows_is_started_before_all_that_was_given_came_back():
    given = [Job(candidate=candidate(i)) for i in range(3)]
    coordinator = coordinate(None, Kept(), first=given, follow=doubled)
    jobs = [coordinator.next() for _ in range(3)]
    assert coordinator.next() is None
    coordinator.finish(jobs[1], DONE)
    assert coordinator.next() is None, "the first one is not told yet"
    coordinator.finish(jobs[0], DONE)
    assert [coordinator.next().name for _ in range(2)] == [
        f"{j.candidate.key}-1" for j in jobs[:2]
    ]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_what_is_known_of_a_job_stands_in_its_place(workers):
    given = [Job(candidate=candidate(i)) for i in range(3)]
    whole = Kept()
    carry_out(coordinate(None, whole, first=list(given), follow=doubled), workers)
    for count in range(len(whole) + 1):
        earlier = {job.name: recorded(job, i) for i, job in enumerate(whole[:count])}
        told, settings = (
            Kept(),
            {"follow": doubled, "known": lambda job, e=earlier: e.get(job.name)},
        )
        again = coordinate(None, told, first=list(given), **settings)
        carry_out(again, workers)
        assert told == whole[count:]
        assert again.told == len(whole)


def recorded(job, number):
    key = job.candidate.key
    return Evaluation(number=number, key=key, candidate=job.candidate, rung=job.rung)


def test_a_replay_stands_where_the_earlier_sitting_was_killed_in_mid_batch():
    whole, jobs = Counting(), Kept()
    carry_out(coordinate(whole, jobs), workers=1)
    for count in range(len(jobs)):
        proposer, told = Counting(), Kept()
        again = coordinate(proposer, told)
        assert again.replay(recorded(job, i) for i, job in enumerate(jobs[:count]))
        assert proposer.heard == whole.heard[:count]
        assert not told, "what is recorded already is not recorded again"
        carry_out(again, workers=2)
        assert told == jobs[count:]
        assert proposer.heard == whole.heard


def test_a_replay_of_what_is_not_asked_is_refused():
    jobs = Kept()
    carry_out(coordinate(Counting(), jobs), workers=1)
    swapped = [recorded(jobs[i], i) for i in (0, 2, 1)]
    assert not coordinate(Counting(), Kept()).replay(swapped)
    beyond = [recorded(job, i) for i, job in enumerate(jobs)]
    assert not coordinate(Counting(), Kept(), evaluations=11).replay(beyond)


def test_a_job_that_met_an_obstacle_is_not_told_and_the_others_that_are_out_are_awaited():
    told = Kept()
    given = [Job(candidate=candidate(i)) for i in range(4)]
    coordinator = coordinate(None, told, first=list(given), evaluations=4)
    first, second = coordinator.next(), coordinator.next()
    coordinator.finish(first, replace(DONE, score=None, obstacle="the disk is full"))
    assert coordinator.next() is None
    assert not coordinator.is_done
    coordinator.finish(second, DONE)
    assert coordinator.is_done
    assert told == [second]
    assert coordinator.obstacle == coordinator.stopped == "the disk is full"
