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
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from paredown.compressors.training.kept import KeepingError
from paredown.search.config.schema import SearchSection
from paredown.search.evaluating.scoring import Evaluator, NotFiniteError
from paredown.search.proposing.jobs import GRACE_S, Job, Outcome, too_long
from paredown.search.study.evaluation import Evaluation, Failure, FailureKind
from paredown.spaces.system.errors import ParedownError

TIMES_THE_SLOWEST = 20
SHORTEST_S = 60.0
_ERROR_STREAM = 2
"""By its number, which still is the stream where `sys.stderr` was replaced."""


class EvaluationTimeout(BaseException):
    """An evaluation takes too long. Not an `Exception`, which a metric may catch to go on."""


def carry_out(evaluator: Evaluator, job: Job) -> Outcome:
    """The job's outcome. The trial boundary: whatever a candidate raises becomes its recorded failure.

    What cannot be kept for want of room is no candidate's failure.
    """
    started = time.perf_counter()
    score, failure, obstacle = None, None, ""
    try:
        # What is solved serves other candidates too: it is not this one's time that it takes.
        evaluator.solve(job.candidate, wait=True)
        solved_s = time.perf_counter() - started
        with _time_limit(job.longest_s):
            score = evaluator.evaluate(job.candidate, job.rung, job.begins)
        spent = replace(score.spent, solving_s=score.spent.solving_s + solved_s)
        score = replace(score, spent=spent)
    except KeepingError as error:
        obstacle = str(error)
    # SystemExit is what a metric's sys.exit() raises; KeyboardInterrupt is the user's alone.
    except (Exception, SystemExit, EvaluationTimeout) as error:
        failure = _failure(error)
    duration_s = time.perf_counter() - started
    return Outcome(score=score, failure=failure, duration_s=duration_s, obstacle=obstacle)


def help_out(evaluator: Evaluator, job: Job) -> None:
    """Solve layers of a job that another process carries out, and which reports what they raise."""
    with suppress(ParedownError):
        evaluator.solve(job.candidate, wait=False)


def _failure(error: BaseException) -> Failure:
    kinds = {EvaluationTimeout: FailureKind.TIMED_OUT, NotFiniteError: FailureKind.NOT_FINITE}
    kind = kinds.get(type(error), FailureKind.RAISED)
    # What we raise says all of it; of anything else the type says half.
    said = f"{error}" if type(error) in kinds else f"{type(error).__name__}: {error}"
    where = "".join(traceback.format_exception(error, limit=-2)).strip()
    return Failure.of_text(kind, f"{said}\n{where}")


@contextmanager
def _time_limit(longest_s: float | None) -> Iterator[None]:
    if longest_s is None:
        yield
        return

    def _raise_timeout(*_: object) -> None:
        raise EvaluationTimeout(too_long(longest_s))

    can_raise = (
        hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    )
    # From a thread of C: it works where a metric never gives Python the word.
    faulthandler.dump_traceback_later(longest_s + GRACE_S, exit=True, file=_ERROR_STREAM)
    before = signal.signal(signal.SIGALRM, _raise_timeout) if can_raise else None
    try:
        if can_raise:
            signal.setitimer(signal.ITIMER_REAL, longest_s)
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        if can_raise:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, before)


def longest_s(
    section: SearchSection, evaluations: Iterable[Evaluation], growth: float = 1.0
) -> float:
    """Seconds an evaluation may take: as configured, else many times the slowest reference's.

    Args:
        evaluations: Those of the first rung; the uncompressed model is a reference among them, so
            that there always is one.
        growth: Rows of this evaluation, as a multiple of those of the first rung.
    """
    if section.evaluation_timeout_s is not None:
        return section.evaluation_timeout_s
    slowest_s = max(e.duration_s for e in evaluations if e.kind == "reference" and not e.is_failed)
    return max(SHORTEST_S, TIMES_THE_SLOWEST * slowest_s * growth)
