"""Whatever an evaluation raises, or how long it takes, is its outcome and nothing else's."""

import signal
import sys
import threading
import time

import pytest

from paredown.search.proposing.jobs import Job
from paredown.search.running.trial import EvaluationTimeout, carry_out
from paredown.search.study.evaluation import Score
from paredown.spaces.candidates.candidate import Candidate

LIMIT_S = 0.2
SCORE = Score(metric=0.9, loss=0.3, images=7)


class Fake:
    """An evaluator that does what it is made with."""

    def __init__(self, act):
        self.act = act
        self.asked = []

    def evaluate(self, candidate, rows):
        self.asked.append((candidate, rows))
        self.act()
        return SCORE


def hang():
    time.sleep(60)


def hang_deaf_to_errors():
    """A metric that catches whatever goes wrong, and goes on."""
    try:
        time.sleep(60)
    except Exception:
        time.sleep(60)


@pytest.fixture
def carried_out():
    """(what the evaluation does, limit in seconds) -> its outcome."""

    def run(act, longest_s=None):
        return carry_out(Fake(act), Job(candidate=Candidate(), rows=7, longest_s=longest_s))

    return run


def test_a_score_comes_back_with_its_seconds():
    evaluator = Fake(lambda: time.sleep(0.05))
    outcome = carry_out(evaluator, Job(candidate=Candidate(), rows=7))
    assert (outcome.score, outcome.error) == (SCORE, None)
    assert 0.05 <= outcome.duration_s < 5.0
    assert evaluator.asked == [(Candidate(), 7)]


@pytest.mark.parametrize(
    ("act", "first"),
    [
        (lambda: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda: sys.exit(3), "SystemExit: 3"),
    ],
)
def test_what_is_raised_is_the_error_with_the_line_that_raised_it(carried_out, act, first):
    outcome = carried_out(act)
    assert outcome.score is None
    line, *where = outcome.error.split("\n")
    assert line == first
    assert any(__file__ in each for each in where)


@pytest.mark.parametrize("act", [hang, hang_deaf_to_errors])
def test_an_evaluation_that_takes_too_long_is_ended_in_its_midst(carried_out, act):
    outcome = carried_out(act, LIMIT_S)
    assert outcome.score is None
    assert outcome.error.startswith(f"{EvaluationTimeout.__name__}: ")
    assert "at most 0.2 s" in outcome.error
    assert LIMIT_S <= outcome.duration_s < 10.0


def test_a_limit_that_was_kept_leaves_nothing_behind(carried_out):
    heard = []
    before = signal.signal(signal.SIGALRM, lambda *_: heard.append("alarm"))
    try:
        ours = signal.getsignal(signal.SIGALRM)
        assert carried_out(lambda: None, LIMIT_S).score == SCORE
        assert signal.getsignal(signal.SIGALRM) is ours
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
        time.sleep(2 * LIMIT_S)
        assert heard == []
    finally:
        signal.signal(signal.SIGALRM, before)


def test_outside_of_the_main_thread_a_limit_sets_no_signal(carried_out):
    found = []
    thread = threading.Thread(target=lambda: found.append(carried_out(lambda: None, 5.0)))
    thread.start()
    thread.join()
    assert found[0].score == SCORE


def test_an_interrupt_of_the_user_is_no_failure_of_the_candidate(carried_out):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carried_out(interrupted)
