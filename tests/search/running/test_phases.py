"""Phases of a search: what is left of all of them, and what they took."""

import pytest

from paredown.search.running.phases import Phases
from paredown.search.running.timetable import (
    RESCORING,
    SEARCH,
    STATISTICS,
    VERIFICATION,
    Pace,
    Timetable,
)


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


def planned(clock, rescoring_s=0.0):
    phases = Phases(clock)
    phases.begin(STATISTICS)
    expected = {STATISTICS: 20.0, SEARCH: 60.0, RESCORING: rescoring_s, VERIFICATION: 40.0}
    phases.plan(Timetable(expected_s=expected, models=10, is_rough=True))
    return phases


def test_what_is_left_has_every_phase_to_come_in_it(clock):
    phases = planned(clock)
    assert phases.left_s(front=0) == 120.0
    clock.now_s = 5.0
    assert phases.left_s(front=0) == 115.0


def test_with_the_last_evaluation_verification_is_still_left(clock):
    """Not "64/64, 0:00 left" while half of the time is to come."""
    phases = planned(clock)
    phases.begin_scoring(64, 1)
    for done in range(2, 65):
        clock.now_s += 1.0
        phases.advance(done)
    assert phases.left_s(front=10) == 40.0
    # A longer front takes longer to verify.
    assert phases.left_s(front=15) == 60.0


def test_a_pace_takes_over_from_the_expectation(clock):
    phases = planned(clock)
    phases.begin_scoring(101, 1)
    # Twice as slow as 60 s for 100.
    for done in range(2, 52):
        clock.now_s += 1.2
        phases.advance(done)
    left = phases.left_s(front=10) - 40.0
    assert left == pytest.approx(50 * (60.0 + 3 * 0.6) / 53)
    assert 0.95 * 60.0 < left < 60.0


def test_rescoring_is_a_phase_of_its_own(clock):
    phases = planned(clock, rescoring_s=30.0)
    phases.begin_scoring(11, 1)
    for done in range(2, 12):
        clock.now_s += 6.0
        phases.advance(done)
    assert phases.left_s(front=10) == 70.0
    phases.begin_scoring(14, 11)
    assert phases.current.name == RESCORING
    assert phases.current.begun_with == 11


def test_a_phase_without_time_is_not_shown(clock):
    assert list(planned(clock).shown) == [STATISTICS, SEARCH, VERIFICATION]
    assert list(planned(clock, 5.0).shown) == [STATISTICS, SEARCH, RESCORING, VERIFICATION]


def test_only_its_end_makes_a_phase_whole(clock):
    phases = planned(clock)
    clock.now_s = 1000.0
    statistics = phases.by_name[STATISTICS]
    assert statistics.share(clock.now_s) == 0.95
    phases.begin_scoring(10, 1)
    assert statistics.share(clock.now_s) == 1.0
    assert phases.by_name[SEARCH].share(clock.now_s) == 0.1


def carried_out(clock, begun_with=1, models=12):
    phases = planned(clock)
    clock.now_s += 7.0
    phases.begin_scoring(64, begun_with)
    for done in range(begun_with + 1, 65):
        clock.now_s += 0.5
        phases.advance(done)
    clock.now_s += 2.0
    phases.begin(VERIFICATION, 12)
    for done in range(1, models + 1):
        clock.now_s += 3.0
        phases.advance(done)
    return phases


def test_the_pace_is_what_was_taken(clock):
    pace = carried_out(clock).pace()
    assert pace == Pace(
        statistics_s=7.0, evaluation_s=0.5, rescoring_s=0.0, model_s=3.0, models=12 / 8
    )


@pytest.mark.parametrize("partly", [{"begun_with": 30}, {"models": 11}])
def test_a_resumed_or_stopped_search_has_no_pace(clock, partly):
    assert carried_out(clock, **partly).pace() is None
