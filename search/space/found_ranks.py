"""Ranks that keep the errors which rules allow: found from statistics, and kept.

A run goes on with the ranks it began with (`ranks.json` in its folder), as it does with its latency
model: another machine's rounding must not move its knobs. Across runs they lie on the shelf, found by
all they were made from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from paredown.compressors.low_rank.rank_by_error import Found, thinnest_ranks
from paredown.compressors.matrix.algebra import centred_gram, to_matrix
from paredown.compressors.storage.shelf import Record, Shelf, code_version, digest
from paredown.search.tasks.cache import cache_folder
from paredown.search.tasks.collecting import Collected
from paredown.spaces.candidates.ranks import Decomposition
from paredown.spaces.capture.capturing import Captured
from paredown.spaces.structure.model_map import Layer
from paredown.spaces.system.bounded import as_list, as_mapping, read_json
from paredown.spaces.system.errors import ParedownError
from paredown.spaces.system.sealed import unseal, write_sealed

_SHELF_BYTES = 2**26
"""Ranks kept on disk, over all models and runs; a layer's take some hundred bytes."""

FindRanks = Callable[
    [str, Layer, Sequence[float], int, Decomposition], Mapping[float, Found | None]
]
"""By error, what `FoundRanks.of` finds for a layer of an architecture in one form."""


PlainValue = str | int | float | list[int] | None
"""What files and `--json` hold of a question or its answer."""


class RankFileError(ParedownError):
    """The ranks kept in a run's folder cannot be read."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """The thinnest ranks, multiples of `step`, of a layer in one form that lose at most `error`."""

    architecture: str
    layer: str
    form: Decomposition
    step: int
    error: float


Answers = Mapping[Question, Found | None]


class FoundRanks:
    """Answers each question once; None says that no ranks which keep the error save weights.

    Args:
        captured: By architecture.
        collected: Statistics are asked for only where something must be found.
        known: What a run was begun with.
    """

    def __init__(
        self,
        captured: Mapping[str, Captured],
        collected: Collected,
        known: Answers,
    ) -> None:
        self._captured = captured
        self._collected = collected
        self._answers = dict(known)
        self.asked: dict[Question, Found | None] = {}

    def of(
        self,
        architecture: str,
        layer: Layer,
        errors: Sequence[float],
        step: int,
        form: Decomposition,
    ) -> Mapping[float, Found | None]:
        """By error, rising, the ranks of one layer in a form that it has."""
        questions = {
            error: Question(
                architecture=architecture, layer=layer.name, form=form, step=step, error=error
            )
            for error in sorted(errors)
        }
        if any(question not in self._answers for question in questions.values()):
            # Of all errors together: what is found must not depend on what was known before.
            found = self._find(architecture, layer, form, tuple(questions), step)
            self._answers = {questions[error]: found[error] for error in found} | self._answers
        self.asked |= {each: self._answers[each] for each in questions.values()}
        return {error: self._answers[each] for error, each in questions.items()}

    def to_json(self) -> list[dict[str, PlainValue]]:
        """All that is known, for `read_ranks`."""
        return [
            vars(question) | {"ranks": found and list(found.ranks), "lost": found and found.lost}
            for question, found in self._answers.items()
        ]

    def _find(
        self,
        architecture: str,
        layer: Layer,
        form: Decomposition,
        errors: tuple[float, ...],
        step: int,
    ) -> Mapping[float, Found | None]:
        """From disk, or found now."""
        matrix, gram = self._problem(architecture, layer)
        shape = layer.weight_shape
        shelf = Shelf(cache_folder() / "ranks", _SHELF_BYTES)
        key = digest(code_version(), matrix, gram, repr((shape, form, errors, step)))
        record = shelf.get(key)
        if record is None:
            found = thinnest_ranks(matrix, gram, shape, form, errors, step)
            plain = [[each and list(each.ranks), each and each.lost] for each in found.values()]
            record = Record(tensors={}, facts={"found": plain})
            shelf.put(key, record)
        answers = (_answer(*each) for each in record.facts["found"])
        return dict(zip(errors, answers, strict=True))

    def _problem(self, architecture: str, layer: Layer) -> tuple[Tensor, Tensor]:
        """The layer's matrix, and the Gram that solvers measure its errors by."""
        statistics = self._collected.of(architecture).statistics[layer.name]
        matrix = to_matrix(self._captured[architecture].tensors[layer.weight], layer)
        if layer.bias is None:
            return matrix, statistics.gram
        return matrix, centred_gram(statistics.gram, statistics.input_mean)


def _answer(ranks: Sequence[int] | None, lost: float | None) -> Found | None:
    if ranks is None or lost is None:
        return None
    return Found(ranks=tuple(ranks), lost=lost)


def write_ranks(file: Path, ranks: FoundRanks) -> None:
    """Keeps all that is known, for `read_ranks`."""
    write_sealed(file, {"ranks": ranks.to_json()})


def read_ranks(file: Path | None) -> dict[Question, Found | None]:
    """What `write_ranks` wrote to `file`; nothing where there is none.

    Raises:
        RankFileError: It holds something else.
    """
    if file is None or not file.is_file():
        return {}
    try:
        found = {}
        for entry in _entries(file):
            answer = _answer(entry.pop("ranks"), entry.pop("lost"))
            found[Question(**entry)] = answer
        return found
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RankFileError(
            f"{file} must hold the ranks that the run was begun with, got {type(error).__name__} "
            f"({error}); others would give its knobs other values, so start a new run"
        ) from error


def _entries(file: Path) -> list[dict[str, Any]]:
    data = read_json(file)
    # Earlier versions wrote the list alone, without a digest.
    entries = as_list(data if isinstance(data, list) else unseal(as_mapping(data))["ranks"])
    return [as_mapping(entry) for entry in entries]
