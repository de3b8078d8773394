"""Candidates that a search is given to begin with: the uniform settings, or those of a user's file."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from paredown.search.study.evaluation import Evaluation
from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.knobs.space import Space
from paredown.spaces.system.bounded import UnreadableTextError, as_list, as_mapping, read_json
from paredown.spaces.system.errors import ParedownError
from paredown.spaces.system.json_values import Json
from paredown.spaces.system.sealed import DamagedFileError, read_sealed, write_sealed

_KEY = "search.initial"


class InitialError(ParedownError):
    """What a search should begin with cannot be read, or is not in its space."""


class Given:
    """A sampler of a list of candidates, in order."""

    def __init__(self, candidates: Iterable[Candidate]) -> None:
        self._left = list(candidates)

    def suggest(self, known: Collection[str]) -> Candidate | None:
        """The next one that is not known; None once all are."""
        while self._left:
            candidate = self._left.pop(0)
            if candidate.key not in known:
                return candidate
        return None

    def expect(self, candidate: Candidate) -> None:
        """Nothing to note."""

    def learn(self, evaluation: Evaluation) -> None:
        """Nothing to learn."""


def keep_initial(source: Path | None, space: Space, file: Path, *, is_resumed: bool) -> None:
    """Reads the candidates in `source` and writes those of the space to `file`.

    A resumed search has them in the file and does not read `source` again.

    Args:
        source: JSON: a list of candidates, or a `front.json`, whose members have one each.

    Raises:
        InitialError: It cannot be read, or holds no candidate of the space.
    """
    if source is None or is_resumed:
        return
    try:
        found = [_candidate(entry) for entry in as_list(read_json(source))]
    except OSError as error:
        raise InitialError(
            f"{_KEY}: a file that can be read is needed, got {source}: {error.strerror}; "
            "give the front.json of a run, or a list of candidates"
        ) from None
    except (UnreadableTextError, KeyError, TypeError, ValueError) as error:
        raise InitialError(
            f"{_KEY}: candidates are needed, got {source} ({type(error).__name__}: {error}); give the "
            "front.json of a run, or a list of candidates"
        ) from None
    within = [candidate for candidate in found if space.contains(candidate)]
    if not within:
        raise InitialError(
            f"{_KEY}: candidates of this search's space are needed, got {len(found)} of which none is; "
            f"open space.rules to what {source} holds, or leave it out"
        )
    write_sealed(file, {"candidates": [dict(c.to_json()) for c in within]})


def initial_candidates(file: Path) -> list[Candidate]:
    """What `keep_initial` wrote; nothing where there is no file.

    Raises:
        InitialError: The file holds something else.
    """
    if not file.is_file():
        return []
    try:
        entries = as_list(read_sealed(file)["candidates"])
        return [Candidate.from_json(as_mapping(entry)) for entry in entries]
    except (DamagedFileError, UnreadableTextError, KeyError, TypeError, ValueError) as error:
        raise InitialError(
            f"{file} must hold what the run was begun with, got {type(error).__name__} ({error}); "
            "restore it, or start a new run"
        ) from error


def _candidate(entry: Json) -> Candidate:
    data = as_mapping(entry)
    return Candidate.from_json(as_mapping(data.get("candidate", data)))
