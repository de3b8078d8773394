"""What earlier runs teach of training; it is kept in the run's folder, which then needs none of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from paredown.search.config.schema import Config
from paredown.search.proposing.outlook import Outlook, Pair, pairs_of
from paredown.search.study.evaluation import UNCOMPRESSED, Goal
from paredown.search.study.journal import JournalError
from paredown.search.study.run_record import read_run
from paredown.spaces.system.bounded import as_list, as_mapping
from paredown.spaces.system.errors import ParedownError
from paredown.spaces.system.json_values import Json
from paredown.spaces.system.sealed import read_sealed, write_sealed

_KEY = "recovery.prior"


class PriorError(ParedownError):
    """An earlier run teaches nothing of training, or what was kept of it cannot be read."""


@dataclass(frozen=True, kw_only=True)
class EarlierRun:
    """The pairs of one run by metric, and the name of its folder."""

    name: str
    pairs: Mapping[str, Sequence[Pair]]


def keep_earlier_runs(config: Config, file: Path, *, is_resumed: bool) -> None:
    """Reads the runs that `recovery.prior` names and writes what they teach to `file`.

    A resumed search has it in the file and reads no other run.

    Raises:
        PriorError: A folder holds no run, or one that teaches nothing of this search's qualities; or
            a resumed search began with others.
    """
    folders = () if config.recovery is None else config.recovery.prior
    if is_resumed:
        began, names = [run.name for run in _read(file)], [folder.name for folder in folders]
        if began != names:
            raise PriorError(
                f"{_KEY}: a resumed search keeps the earlier runs that it began with, got "
                f"{', '.join(names) or 'none'} where it has {', '.join(began) or 'none'}; restore them"
            )
        return
    goals = [Goal(metric=g.metric, direction=g.direction) for g in config.goals]
    runs = [_learned(f"{_KEY}[{i}]", folder, goals) for i, folder in enumerate(folders)]
    if runs:
        write_sealed(file, {"runs": [_to_json(run) for run in runs]})


def first_outlook(file: Path, goals: Sequence[Goal], *, is_trained: bool) -> Outlook:
    """What a search expects of training before its first one, by what was kept in `file`.

    Args:
        is_trained: Whether it trains any.

    Raises:
        PriorError: The file holds something else.
    """
    if not is_trained:
        return Outlook()
    pooled: dict[str, list[Pair]] = {}
    for run in _read(file):
        for metric, pairs in run.pairs.items():
            pooled.setdefault(metric, []).extend(pairs)
    return Outlook.of_training(goals).learning(pooled)


def _learned(path: str, folder: Path, goals: Sequence[Goal]) -> EarlierRun:
    try:
        evaluations = read_run(folder).evaluations
    except JournalError as error:
        raise PriorError(f"{path}: {error}") from None
    scored = [e for e in evaluations if not e.is_failed]
    known = {name for e in scored if e.label == UNCOMPRESSED for name in e.metrics}
    missing = [g.metric for g in goals if not g.is_cost and g.metric not in known]
    if missing:
        raise PriorError(
            f"{path}: an earlier run must have scored {' and '.join(missing)}, as this search does, got "
            f"{folder} with {', '.join(sorted(known)) or 'nothing'}; leave it out"
        )
    pairs = pairs_of(evaluations, goals)
    if not any(pairs.values()):
        raise PriorError(
            f"{path}: an earlier run must have trained candidates that had lost quality, got none in "
            f"{folder}; give a run with the section `recovery`, or leave it out"
        )
    return EarlierRun(name=folder.name, pairs=pairs)


def _to_json(run: EarlierRun) -> dict[str, Json]:
    pairs = {metric: [asdict(pair) for pair in each] for metric, each in run.pairs.items()}
    return {"name": run.name, "pairs": pairs}


def _read(file: Path) -> list[EarlierRun]:
    """What was kept; nothing where there is no file."""
    if not file.is_file():
        return []
    try:
        return [_of_json(as_mapping(run)) for run in as_list(read_sealed(file)["runs"])]
    except (KeyError, TypeError, ValueError) as error:
        raise PriorError(
            f"{file} must hold what the run was begun with, got {type(error).__name__} ({error}); "
            "restore it, or start a new run"
        ) from error


def _of_json(data: Mapping[str, Json]) -> EarlierRun:
    pairs = as_mapping(data["pairs"])
    return EarlierRun(
        name=str(data["name"]),
        pairs={m: [_pair(p) for p in as_list(ps)] for m, ps in pairs.items()},
    )


def _pair(data: Json) -> Pair:
    pair = Pair(**as_mapping(data))  # type: ignore[arg-type]
    if not (0 < pair.before < math.inf and math.isfinite(pair.after)):
        raise ValueError(f"losses must be finite and above 0 before training, got {pair}")
    return pair
