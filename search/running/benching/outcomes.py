"""Outcomes of evaluations on disk, found again by candidate: what was evaluated once is never again.

Scores depend on network, rows, metric and loss, and on nothing that is searched or priced. So one file
serves all samplers, spaces, goals and devices; costs are read off the candidates anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from paredown.compressors.storage.shelf import digest
from paredown.search.evaluating.facts import problem
from paredown.search.evaluating.workbench import Workbench
from paredown.search.proposing.jobs import Outcome
from paredown.search.study.record_file import RecordFile, cut_torn_tail
from paredown.search.study.rung import Rung
from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.system.errors import ParedownError
from paredown.spaces.system.json_values import Json
from paredown.spaces.system.sealed import DamagedFileError

_PRICED = "hardware."


class OutcomeFileError(ParedownError):
    """A file of outcomes holds something else."""


@dataclass(frozen=True)
class Known:
    """A candidate with what came of it."""

    candidate: Candidate
    outcome: Outcome


def problem_digest(workbench: Workbench) -> str:
    """Stands for all that a score depends on beside the candidate and the rung."""
    facts = problem(workbench).items()
    return digest(*(f"{name}: {fact}" for name, fact in facts if not name.startswith(_PRICED)))


class OutcomeFile:
    """A file of JSON lines with one outcome each, of this problem and rung or of others; it only grows.

    Every line is on disk before it counts, so that a process that is killed loses what it is at alone.

    Raises:
        OutcomeFileError: The file holds something else.
    """

    def __init__(self, path: Path, problem: str, rung: Rung) -> None:
        self.others = 0
        """Lines about other problems or rungs, which are left alone."""
        self._about: dict[str, Json] = {"problem": problem, "rung": rung.to_json()}
        self._known: dict[str, Known] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        cut_torn_tail(path)
        self._file = RecordFile(path, _check)
        try:
            for record in self._file.read_logs(0):
                self._take(record)
        except (DamagedFileError, KeyError, TypeError, ValueError) as error:
            raise OutcomeFileError(
                f"{path} must hold the outcomes that a bench wrote, got one in line "
                f"{self._file.line} that cannot be read ({type(error).__name__}: {error}); delete "
                "the line to evaluate its candidate again"
            ) from error

    @property
    def known(self) -> Mapping[str, Known]:
        """By candidate key, in the order of writing."""
        return self._known

    def add(self, candidate: Candidate, outcome: Outcome) -> None:
        """Writes the outcome; nothing where the candidate has one already."""
        key = candidate.key
        if key in self._known:
            return
        plain = {"candidate": candidate.to_json(), "outcome": outcome.to_json()}
        self._file.append_logs([{**self._about, "key": key, **plain}])
        self._known[key] = Known(candidate, outcome)

    def _take(self, record: Mapping[str, Json]) -> None:
        about = {name: record[name] for name in self._about}
        known = _read(record)
        # A key that is another one now was given by a version that knew other candidates.
        if about == self._about and known.candidate.key == record["key"]:
            self._known[known.candidate.key] = known
        else:
            self.others += 1


def _check(record: Mapping[str, Json]) -> None:
    _read(record)


def _read(record: Mapping[str, Json]) -> Known:
    return Known(
        Candidate.from_json(_mapping(record["candidate"])),
        Outcome.from_json(_mapping(record["outcome"])),
    )


def _mapping(value: Json) -> Mapping[str, Json]:
    if not isinstance(value, Mapping):
        raise TypeError(f"it must be a mapping, got {value!r}")
    return value
