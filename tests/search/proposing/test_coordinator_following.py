"""What follows an evaluation: further jobs, those known from before, and those whose worker is lost."""

from dataclasses import replace

import pytest

from paredown.search.proposing import coordinator as coordinating
from paredown.search.proposing.coordinator import Job, Outcome
from paredown.search.study.evaluation import Evaluation, Failure, FailureKind
from paredown.search.study.rung import Recipe, Rung


def doubled(evaluation):
    """The job that a job of the first rung leads to."""
    return [Job(candidate=evaluation.candidate, rung=Rung(number=1))][evaluation.rung.number :]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_what_follows_an_evaluation_is_asked_in_the_order_of_telling(
    workers, kept, coordinate, carry_out, candidate
):
    given = [Job(candidate=candidate(i)) for i in range(4)]
    for seed in range(5):
        told = kept()
        carry_out(coordinate(None, told, first=list(given), follow=doubled), workers, seed)
        assert told.widths == [0, 1, 2, 3] * 2
        assert [job.rung.number for job in told] == [0] * 4 + [1] * 4


def test_what_follows_is_started_before_all_that_was_given_came_back(
    kept, coordinate, done, candidate
):
    given = [Job(candidate=candidate(i)) for i in range(3)]
    coordinator = coordinate(None, kept(), first=given, follow=doubled)
    jobs = [coordinator.next() for _ in range(3)]
    assert coordinator.next() is None
    coordinator.finish(jobs[1], done)
    assert coordinator.next() is None, "the first one is not told yet"
    coordinator.finish(jobs[0], done)
    assert [coordinator.next().name for _ in range(2)] == [
        f"{j.candidate.key}-1" for j in jobs[:2]
    ]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_what_is_known_of_a_job_stands_in_its_place(
    workers, kept, coordinate, carry_out, candidate
):
    given = [Job(candidate=candidate(i)) for i in range(3)]
    whole = kept()
    carry_out(coordinate(None, whole, first=list(given), follow=doubled), workers)
    for count in range(len(whole) + 1):
        earlier = {job.name: recorded(job, i) for i, job in enumerate(whole[:count])}
        told, settings = (
            kept(),
            {"follow": doubled, "known": lambda job, e=earlier: e.get(job.name)},
        )
        again = coordinate(None, told, first=list(given), **settings)
        carry_out(again, workers)
        assert told == whole[count:]
        assert again.told == len(whole)


def recorded(job, number):
    key = job.candidate.key
    return Evaluation(number=number, key=key, candidate=job.candidate, rung=job.rung)


def test_a_replay_stands_where_the_earlier_sitting_was_killed_in_mid_batch(
    counting, kept, coordinate, carry_out
):
    whole, jobs = counting(), kept()
    carry_out(coordinate(whole, jobs), workers=1)
    for count in range(len(jobs)):
        proposer, told = counting(), kept()
        again = coordinate(proposer, told)
        assert again.replay(recorded(job, i) for i, job in enumerate(jobs[:count]))
        assert proposer.heard == whole.heard[:count]
        assert not told, "what is recorded already is not recorded again"
        carry_out(again, workers=2)
        assert told == jobs[count:]
        assert proposer.heard == whole.heard


def test_a_replay_of_what_is_not_asked_is_refused(counting, kept, coordinate, carry_out):
    jobs = kept()
    carry_out(coordinate(counting(), jobs), workers=1)
    swapped = [recorded(jobs[i], i) for i in (0, 2, 1)]
    assert not coordinate(counting(), kept()).replay(swapped)
    beyond = [recorded(job, i) for i, job in enumerate(jobs)]
    assert not coordinate(counting(), kept(), evaluations=11).replay(beyond)


def test_a_job_that_met_an_obstacle_is_not_told_and_the_others_that_are_out_are_awaited(
    kept, coordinate, done, candidate
):
    told = kept()
    given = [Job(candidate=candidate(i)) for i in range(4)]
    coordinator = coordinate(None, told, first=list(given), evaluations=4)
    first, second = coordinator.next(), coordinator.next()
    coordinator.finish(first, replace(done, score=None, obstacle="the disk is full"))
    assert coordinator.next() is None
    assert not coordinator.is_done
    coordinator.finish(second, done)
    assert coordinator.is_done
    assert told == [second]
    assert coordinator.obstacle == coordinator.stopped == "the disk is full"


LOST = Outcome(
    score=None,
    failure=Failure(kind=FailureKind.WORKER_LOST, sentence="the node is gone"),
    duration_s=0.1,
)
TRAINED = Rung(number=1, recipe=Recipe(trainer="mine 1", steps=5))


def test_a_training_whose_worker_is_lost_is_asked_again_next_of_all(
    candidate, kept, coordinate, carry_out, done
):
    told, heard = kept(), []
    given = [Job(candidate=candidate(i), rung=TRAINED) for i in range(4)]
    settings = {"first": list(given), "again": lambda job, failure: heard.append((job, failure))}
    coordinator = coordinate(None, told, **settings)
    first, second = coordinator.next(), coordinator.next()
    coordinator.finish(second, LOST)
    assert told == []
    assert not coordinator.is_done
    assert coordinator.next() == second
    coordinator.finish(first, done)
    coordinator.finish(second, done)
    carry_out(coordinator, workers=2)
    assert told == given
    assert heard == [(second, LOST.failure)]
    assert coordinator.lost_in_row == 0


def test_a_training_that_loses_one_worker_after_the_other_has_failed(candidate, coordinate):
    outcomes = []

    def tell(job, outcome):
        outcomes.append(outcome)
        return recorded(job, 0)

    coordinator = coordinate(None, tell, first=[Job(candidate=candidate(1), rung=TRAINED)])
    for tried in range(coordinating.MOST_TRIES):
        assert outcomes == []
        assert coordinator.lost_in_row == 0
        job = coordinator.next()
        assert job is not None, f"lost {tried} times"
        coordinator.finish(job, LOST)
    assert outcomes == [LOST]
    assert coordinator.is_done
    assert (coordinator.lost_in_row, coordinator.last_lost) == (1, "the node is gone")


def test_a_lost_training_is_left_to_the_next_search_where_this_one_is_stopped(
    candidate, kept, coordinate
):
    told = kept()
    coordinator = coordinate(None, told, first=[Job(candidate=candidate(1), rung=TRAINED)])
    job = coordinator.next()
    coordinator.stop("interrupted")
    coordinator.finish(job, LOST)
    assert coordinator.next() is None
    assert coordinator.is_done
    assert told == []


@pytest.mark.parametrize("rung", [Rung(), TRAINED.untrained])
def test_what_is_only_scored_fails_with_its_first_worker(candidate, kept, coordinate, done, rung):
    told = kept()
    given = [Job(candidate=candidate(i), rung=rung) for i in range(3)]
    coordinator = coordinate(None, told, first=list(given))
    for count in (1, 2):
        coordinator.finish(coordinator.next(), LOST)
        assert coordinator.lost_in_row == count
    assert told == given[:2]
    coordinator.finish(coordinator.next(), done)
    assert coordinator.lost_in_row == 0
