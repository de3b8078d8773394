"""Jobs are told in asking order, whatever the order they finish in."""

import pytest

from paredown.search.proposing.coordinator import Job
from paredown.search.study.rung import Rung


def test_jobs_are_told_in_asking_order_whatever_the_finishing_order_and_workers(
    candidate, counting, kept, coordinate, carry_out
):
    for workers in (1, 2, 3, 8):
        for seed in range(5):
            proposer, told = counting(), kept()
            most = carry_out(coordinate(proposer, told), workers, seed)
            assert told.widths == list(range(1, 13))
            assert proposer.heard == [candidate(n).key for n in range(1, 13)]
            assert most == min(workers, 4)


def test_a_late_first_job_holds_back_what_finished_after_it(counting, kept, coordinate, done):
    told = kept()
    coordinator = coordinate(counting(), told)
    jobs = [coordinator.next() for _ in range(4)]
    for job in jobs[1:]:
        coordinator.finish(job, done)
    assert told == []
    assert coordinator.next() is None, "the next batch waits for the whole of this one"
    assert not coordinator.is_done
    coordinator.finish(jobs[0], done)
    assert told == jobs
    assert coordinator.told == 4


def test_given_jobs_come_before_any_proposal_and_count(
    counting, kept, coordinate, carry_out, candidate
):
    proposer, told = counting(), kept()
    given = [Job(candidate=candidate(100 + i), kind="reference") for i in range(2)]
    carry_out(coordinate(proposer, told, first=list(given), evaluations=7), workers=2)
    assert told[:2] == given
    assert told.widths[2:] == [1, 2, 3, 4, 5]


def test_the_proposer_hears_of_given_candidates_before_it_is_asked(
    counting, kept, coordinate, candidate
):
    proposer = counting()
    given = [Job(candidate=candidate(100 + i), kind="reference") for i in range(2)]
    coordinate(proposer, kept(), first=list(given))
    assert proposer.expected == [job.candidate.key for job in given]
    assert proposer.asked == 0


def test_a_job_that_is_given_twice_is_carried_out_once_and_nothing_hangs(
    kept, coordinate, carry_out, candidate
):
    told = kept()
    given = [Job(candidate=candidate(i)) for i in (1, 2, 1)]
    carry_out(coordinate(None, told, first=given, evaluations=3), workers=3)
    assert told.widths == [1, 2]


@pytest.mark.parametrize("ahead", [0, 2])
@pytest.mark.parametrize("evaluations", [1, 2, 3, 4])
def test_given_jobs_are_all_carried_out_and_nothing_beyond_the_total_is_proposed(
    evaluations, ahead, counting, kept, coordinate, carry_out, candidate
):
    proposer, told = counting(), kept()
    given = [Job(candidate=candidate(100 + i), kind="reference") for i in range(2)]
    # One was told before: the uncompressed model.
    settings = {"first": list(given), "evaluations": evaluations, "told": 1, "ahead": ahead}
    coordinator = coordinate(proposer, told, **settings)
    carry_out(coordinator, workers=2)
    assert told[:2] == given
    assert coordinator.told == max(3, evaluations)
    assert proposer.asked == max(0, evaluations - 3)
    assert coordinator.stopped is None


def test_proposals_carry_the_rows_of_the_rung_and_the_last_batch_is_cut_short(
    counting, kept, coordinate, carry_out
):
    proposer, told = counting(), kept()
    carry_out(coordinate(proposer, told, evaluations=6), workers=1)
    assert {job.rung for job in told} == {Rung(rows=7)}
    assert proposer.asked == 6


def test_evaluations_of_earlier_sittings_count_towards_the_total(
    counting, kept, coordinate, carry_out
):
    proposer, told = counting(), kept()
    carry_out(coordinate(proposer, told, evaluations=10, told=7), workers=2)
    assert proposer.asked == 3
    assert coordinate(counting(), kept(), evaluations=10, told=10).is_done


def test_an_exhausted_space_ends_with_what_there_was_and_says_so(
    counting, kept, coordinate, carry_out
):
    told = kept()
    coordinator = coordinate(counting(size=6), told)
    carry_out(coordinator, workers=2)
    assert told.widths == [1, 2, 3, 4, 5, 6]
    assert coordinator.stopped == "the space is exhausted"


def test_enough_ends_the_asking_once_all_that_is_out_is_recorded(
    counting, kept, coordinate, carry_out
):
    told, asked = kept(), []

    def enough(count):
        asked.append(count)
        return "that is enough" if count >= 8 else None

    coordinator = coordinate(counting(), told, evaluations=100, enough=enough)
    carry_out(coordinator, workers=3)
    assert told.widths == [1, 2, 3, 4, 5, 6, 7, 8]
    assert asked == [0, 4, 8]
    assert coordinator.stopped == "that is enough"


def test_asking_ahead_keeps_workers_busy_and_still_tells_in_asking_order(
    counting, kept, coordinate, carry_out, done
):
    for seed in range(5):
        proposer, told = counting(), kept()
        coordinator = coordinate(proposer, told, ahead=2, evaluations=11)
        jobs = [coordinator.next() for _ in range(4)]
        for job in jobs[:2]:
            coordinator.finish(job, done)
        fifth = coordinator.next()
        assert fifth is not None, "two are out: the next batch is asked"
        for job in (fifth, *jobs[2:]):
            coordinator.finish(job, done)
        carry_out(coordinator, workers=3, seed=seed)
        assert told.widths == list(range(1, 12))
        assert proposer.asked == 11


def test_asking_ahead_of_an_exhausted_space_loses_no_job(counting, kept, coordinate, carry_out):
    told = kept()
    coordinator = coordinate(counting(size=4), told, ahead=3)
    carry_out(coordinator, workers=4)
    assert told.widths == [1, 2, 3, 4]
    assert coordinator.stopped == "the space is exhausted"


def test_without_a_proposer_the_given_jobs_are_all(kept, coordinate, carry_out, candidate):
    told = kept()
    given = [Job(candidate=candidate(i), rung=Rung(number=1)) for i in range(3)]
    carry_out(coordinate(None, told, first=list(given), evaluations=3), workers=2)
    assert told == given
    assert coordinate(None, kept(), evaluations=0).is_done
