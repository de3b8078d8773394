"""Versions of the journal: which is written, and how evaluations of an earlier one are read.

Version 1 gives a rung as its number alone, and a failure as a text whose first word is its kind.
"""

from __future__ import annotations

from collections.abc import Mapping

from paredown.search.study.evaluation import Failure, FailureKind
from paredown.search.study.rung import Rung
from paredown.spaces.system.errors import ParedownError
from paredown.spaces.system.json_values import Json

FORMAT = 2
"""The version that is written. 2: rungs and failures are records of their own."""
_ROWS_FACT = "search.rung_images"
"""The fact of a study's problem that gives the rows of its first rung."""
_KINDS = {
    "WorkerDied": FailureKind.WORKER_LOST,
    "EvaluationTimeout": FailureKind.TIMED_OUT,
    "ProcessEnded": FailureKind.ENDED_PROCESS,
    "NotFiniteError": FailureKind.NOT_FINITE,
    "MeasureError": FailureKind.NO_PRICE,
}


class FormatError(ParedownError):
    """A journal is of a later version than this program reads."""


def check_format(version: Json) -> None:
    """Refuses what a later version wrote.

    Raises:
        FormatError: As said.
    """
    if not isinstance(version, int) or version > FORMAT:
        raise FormatError(
            f"a journal must be of format {FORMAT} or earlier, got format {version}, which a later "
            "version of paredown wrote; upgrade paredown to read this run"
        )


def as_now(evaluation: Mapping[str, Json], problem: Mapping[str, str]) -> dict[str, Json]:
    """An evaluation of version 1 as the current version writes it; one of that as it is.

    Args:
        problem: The study's facts, see `Journal.keep_problem`; empty where it has none.

    Raises:
        KeyError, TypeError: It is an evaluation of neither version.
    """
    number, error = evaluation["rung"], evaluation.get("error")
    if not isinstance(number, int):
        return dict(evaluation)
    now = {name: value for name, value in evaluation.items() if name != "error"}
    rows = int(problem[_ROWS_FACT]) if number == 0 and _ROWS_FACT in problem else None
    now["rung"] = Rung(number=number, rows=rows).to_json()
    now["failure"] = None if error is None else _failure(str(error)).to_json()
    return now


def _failure(error: str) -> Failure:
    word, _, rest = error.partition(": ")
    if word in _KINDS:
        return Failure.of_text(_KINDS[word], rest)
    return Failure.of_text(FailureKind.RAISED, error)
