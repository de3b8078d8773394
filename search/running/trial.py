"""One job carried out in the process of a worker, whatever its candidate does there.

What a candidate raises is its recorded error, and so is a time limit: an exception in the midst of
it first, which spares the process. What does not let Python run, or swallows the exception, ends
the process; the engine, whichever it is, records that and replaces the process.
"""

from __future__ import annotations

import faulthandler
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from paredown.search.evaluating.scoring import Evaluator
from paredown.search.proposing.jobs import Job, Outcome
from paredown.search.running.time_limit import GRACE_S, too_long

_ERROR_STREAM = 2
"""By its number, which still is the stream where `sys.stderr` was replaced."""


class EvaluationTimeout(BaseException):
    """An evaluation takes too long. Not an `Exception`, which a metric may catch to go on."""


def carry_out(evaluator: Evaluator, job: Job) -> Outcome:
    """The job's outcome. The trial boundary: whatever a candidate raises becomes its recorded error."""
    started = time.perf_counter()
    try:
        with _time_limit(job.longest_s):
            score = evaluator.evaluate(job.candidate, job.rows)
        return Outcome(score=score, error=None, duration_s=time.perf_counter() - started)
    # SystemExit is what a metric's sys.exit() raises; KeyboardInterrupt is the user's alone.
    except (Exception, SystemExit, EvaluationTimeout) as error:
        where = traceback.format_exc(limit=-2).strip()
        told = f"{type(error).__name__}: {error}\n{where}"
        return Outcome(score=None, error=told, duration_s=time.perf_counter() - started)


@contextmanager
def _time_limit(longest_s: float | None) -> Iterator[None]:
    if longest_s is None:
        yield
        return

    def raise_timeout(*_: object) -> None:
        raise EvaluationTimeout(too_long(longest_s))

    can_raise = (
        hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    )
    # From a thread of C: it works where a metric never gives Python the word.
    faulthandler.dump_traceback_later(longest_s + GRACE_S, exit=True, file=_ERROR_STREAM)
    before = signal.signal(signal.SIGALRM, raise_timeout) if can_raise else None
    try:
        if can_raise:
            signal.setitimer(signal.ITIMER_REAL, longest_s)
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        if can_raise:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, before)
