"""A search timed as it goes: all is passed on, and what the phases took is known at the end."""

import math
from dataclasses import replace

import pytest

from paredown.search.running.timetable import Timetable
from paredown.search.running.watching import Timed
from paredown.search.study.evaluation import Evaluation, Spent
from paredown.spaces.candidates.candidate import Candidate

TOLD = Evaluation(number=1, key="a", candidate=Candidate(), duration_s=2.0)


class Listener:
    """Keeps the calls that reach it."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        return lambda *arguments: self.calls.append((name, *arguments))


class Clock:
    now_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def timed():
    listener, clock = Listener(), Clock()
    return Timed(listener, clock), listener, clock


def test_everything_is_passed_on_as_it_came(timed):
    watch, listener, _ = timed
    table = Timetable(expected_s={}, models=1, is_rough=True)
    sent = [
        ("stage", "reading"),
        ("notice", "odd"),
        ("planned", table),
        ("started", 9),
        ("told", TOLD, "front", 0.5, 2),
        ("verifying", 2),
        ("verified", "check", 1, 2),
    ]
    for name, *arguments in sent:
        getattr(watch, name)(*arguments)
    assert listener.calls == sent


def test_the_pace_is_what_each_phase_took(timed):
    watch, _, clock = timed
    clock.now_s = 20.0  # statistics
    watch.started(9)
    assert watch.pace is None
    for done in range(1, 10):
        clock.now_s += 3.0
        watch.told(TOLD, None, 0.0, done)
    # Rescoring is at a pace of its own.
    watch.started(11)
    for done in (10, 11):
        clock.now_s += 7.0
        watch.told(TOLD, None, 0.0, done)
    watch.verifying(2)
    assert watch.pace is None
    for done in (1, 2):
        clock.now_s += 5.0
        watch.verified(None, done, 2)
    pace = watch.pace
    assert (pace.statistics_s, pace.evaluation_s) == (20.0, 3.0)
    assert (pace.rescoring_s, pace.model_s) == (7.0, 5.0)
    assert pace.models == pytest.approx(2 / math.sqrt(9))


def test_a_resumed_search_has_no_pace(timed):
    watch, _, clock = timed
    for done in (1, 2, 3):
        watch.told(TOLD, None, 0.0, done)
    watch.started(5)
    for done in (4, 5):
        clock.now_s += 3.0
        watch.told(TOLD, None, 0.0, done)
    watch.verifying(1)
    watch.verified(None, 1, 1)
    assert watch.pace is None


def test_seconds_are_those_of_phases_and_of_workers_without_what_took_none(timed):
    watch, _, clock = timed
    clock.now_s = 4.0
    watch.planned(Timetable(expected_s={}, models=1, is_rough=True))
    clock.now_s = 17.0
    watch.told(TOLD, None, 0.0, 1)  # the uncompressed model, or one of an earlier session
    clock.now_s = 20.0
    watch.started(3)
    scored = replace(TOLD, duration_s=7.5, spent=Spent(3.0, 0.0, 4.0))
    failed = replace(TOLD, duration_s=1.5)
    for done, each in ((2, scored), (3, failed)):
        clock.now_s += 5.0
        watch.told(each, None, 0.0, done)
    watch.started(4)
    clock.now_s += 2.0
    watch.verifying(1)
    clock.now_s += 6.0
    # The first is the uncompressed model, which is scored before the search.
    seconds = watch.seconds([scored, TOLD, scored, failed], workers=2)
    assert seconds == {
        "reading": 4.0,
        "statistics": 13.0,
        "predicting": 3.0,
        "solving": 3.0,
        "scoring": 4.0,
        "other": 2.0 + 1.5,
        "waiting": 2 * 12.0 - (7.5 + 1.5),
        "verification": 6.0,
    }
