"""The study on disk: an Optuna journal with one record per finished evaluation, the one truth.

Sampling happens in memory; only what is finished is written, in a single line and one fsync.
"""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import filelock
import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import JournalStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from paredown.search.study.display import title_of
from paredown.search.study.evaluation import Evaluation, Goal, require_goals
from paredown.search.study.journal_format import FORMAT, FormatError, as_now, check_format
from paredown.search.study.record_file import RecordFile, cut_torn_tail
from paredown.search.study.trial_words import attributes_of, goal_unit
from paredown.spaces.system.errors import ParedownError
from paredown.spaces.system.json_values import Json

_FORMAT, _GOALS, _PROBLEM = "format", "goals", "problem"
_EVALUATION = "evaluation"
_OWN = (_GOALS, _PROBLEM, _FORMAT)

Params = Mapping[str, int | float | str | bool | None]


class JournalError(ParedownError):
    """The run folder holds another study, one in use, or none."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One finished evaluation as it was written, with the sampler's parameters."""

    evaluation: Evaluation
    params: Params
    distributions: Mapping[str, BaseDistribution]


class Journal:
    """A study's journal, open for writing by this process alone until `close`."""

    def __init__(self, study: Study, goals: tuple[Goal, ...], lock: filelock.BaseFileLock) -> None:
        self._study = study
        self._goals = goals
        self._lock = lock

    @classmethod
    def open(
        cls,
        path: Path,
        goals: tuple[Goal, ...],
        *,
        resume: bool,
        lock: filelock.BaseFileLock | None = None,
    ) -> Journal:
        """The journal at `path`, made where there is none; a torn last record is cut off.

        Args:
            lock: What `hold` gave for `path`, held now if not given; `close` releases it.

        Raises:
            JournalError: `path` holds a study and `resume` is False, holds one with other goals
                (bounds may change), or another process is writing it.
        """
        lock = lock or hold(path)
        try:
            if path.exists() and path.stat().st_size and not resume:
                raise JournalError(
                    f"a search starts in an empty run folder, got a study in {path.parent}; "
                    "add --resume to go on with it, or choose another `output` folder"
                )
            cut_torn_tail(path)
            return cls(_study_at(path, goals), goals, lock)
        except BaseException:
            lock.release()
            raise

    def append(
        self,
        evaluation: Evaluation,
        params: Params,
        distributions: Mapping[str, BaseDistribution],
    ) -> None:
        """Write `evaluation` as one record; it is on disk when this returns.

        Raises:
            MissingMetricError: A successful evaluation lacks a goal's metric or holds NaN there.
        """
        failed = evaluation.is_failed
        if not failed:
            require_goals(evaluation, self._goals)
        self._study.add_trial(
            create_trial(
                state=TrialState.FAIL if failed else TrialState.COMPLETE,
                values=None if failed else self._values(evaluation),
                params=dict(params),
                distributions=dict(distributions),
                user_attrs=attributes_of(evaluation) | {_EVALUATION: evaluation.to_json()},
            )
        )

    def _values(self, evaluation: Evaluation) -> list[float]:
        """The goals in the units that the study names; in SI where an earlier version made it."""
        values = [(goal.metric, evaluation.metrics[goal.metric]) for goal in self._goals]
        if self._study.metric_names is None:
            return [value for _, value in values]
        return [value * goal_unit(metric).factor for metric, value in values]

    def read(self) -> tuple[Entry, ...]:
        """Every record in the order of writing."""
        return _entries(self._study)

    def set_attribute(self, name: str, value: Json) -> None:
        """Keep a JSON value beside the evaluations (a run id, a digest, a version): one fsync."""
        if name in _OWN:
            raise JournalError(f"the name {name!r} is taken by the journal; choose another")
        self._study.set_user_attr(name, value)

    def keep_problem(self, facts: Mapping[str, str]) -> None:
        """Keep what the evaluations are about; hold a study that has some against it.

        Raises:
            JournalError: The study's evaluations are about something else.
        """
        kept = self._study.user_attrs.get(_PROBLEM)
        if kept is None:
            if self._study.get_trials(deepcopy=False):
                raise JournalError(
                    "a resumed study must say what its evaluations are about, got one that an "
                    "earlier version wrote; choose another `output` folder"
                )
            self._study.set_user_attr(_PROBLEM, dict(facts))
            return
        changed = differences(kept, facts)
        if changed:
            raise JournalError(
                f"a resumed search keeps what its evaluations are about, got another "
                f"{'; another '.join(changed)}; restore it, or choose another `output` folder"
            )

    @property
    def attributes(self) -> Mapping[str, Json]:
        """Values kept by `set_attribute`, by name."""
        return _attributes(self._study)

    @property
    def search_id(self) -> str:
        """A name no other search has, given when the journal was made."""
        return self._study.study_name

    def close(self) -> None:
        """Let other processes write the journal."""
        self._lock.release()


@dataclass(frozen=True, kw_only=True)
class Record:
    """A journal as read: enough to redraw a run's front without writing anything."""

    search_id: str
    goals: tuple[Goal, ...]
    entries: tuple[Entry, ...]
    attributes: Mapping[str, Json]


def read_journal(path: Path) -> Record:
    """What the journal at `path` holds, also while a search is writing it.

    Raises:
        JournalError: There is no study, or one that cannot be read.
    """
    if not path.exists():
        raise JournalError(f"a run folder holds {path.name}, got none in {path.parent}; see `run`")
    storage = _storage(path)
    studies = storage.get_all_studies()
    # A study that was only just named has no goals yet.
    if not studies or _GOALS not in studies[0].user_attrs:
        raise JournalError(f"{path} must hold a study, got an empty journal; start the search")
    study = optuna.load_study(study_name=studies[0].study_name, storage=storage)
    return Record(
        search_id=study.study_name,
        goals=tuple(Goal(**goal) for goal in study.user_attrs[_GOALS]),
        entries=_entries(study),
        attributes=_attributes(study),
    )


def hold(path: Path) -> filelock.BaseFileLock:
    """The journal at `path`, made or not, for this process alone until the lock is released.

    Raises:
        JournalError: Another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The kernel frees this lock when the process dies, however it dies.
    lock = filelock.FileLock(f"{path}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise JournalError(
            f"one process writes a study at a time, got {path} in use; wait for the other search "
            "to end or stop it"
        ) from None
    return lock


def _storage(path: Path) -> JournalStorage:
    records = RecordFile(path, _check)
    try:
        return JournalStorage(records)
    except FormatError as error:
        raise JournalError(f"{path}: {error}") from None
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise JournalError(
            f"{path} must hold the records that a search wrote, got one in line {records.line} that "
            f"cannot be read ({type(error).__name__}: {error}); restore the file, delete the line to "
            "go on without what it says, or start a new run"
        ) from error


def _check(record: Mapping[str, Json]) -> None:
    """Nothing, where what we wrote into a record of Optuna's can be read."""
    kept = record.get("user_attrs")
    if "user_attrs" in record or "distributions" in record:
        # What is missing raises as well: no trial of ours is without.
        Evaluation.from_json(as_now(kept[_EVALUATION], {}))  # type: ignore[index, call-overload, arg-type]
    attributes = record.get("user_attr")
    if isinstance(attributes, Mapping):
        for goal in attributes.get(_GOALS, ()):  # type: ignore[union-attr]
            Goal(**goal)  # type: ignore[arg-type]
        check_format(attributes.get(_FORMAT, FORMAT))


def _study_at(path: Path, goals: tuple[Goal, ...]) -> Study:
    storage = _storage(path)
    wanted = [asdict(goal) for goal in goals]
    studies = storage.get_all_studies()
    if studies:
        study = optuna.load_study(study_name=studies[0].study_name, storage=storage)
    else:
        # The run's name for people, and what no other search has.
        name = f"{path.parent.name} {uuid.uuid4().hex[:12]}"
        directions = [goal.direction for goal in goals]
        study = optuna.create_study(storage=storage, study_name=name, directions=directions)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(
                [title_of(goal.metric, goal_unit(goal.metric)) for goal in goals]
            )
    found = study.user_attrs.get(_GOALS, wanted)
    if _aims(found) != _aims(wanted):
        raise JournalError(
            f"a resumed search keeps its goals, got {_aims(wanted)} where the study has "
            f"{_aims(found)}; restore the config's goals or choose another `output` folder"
        )
    if study.user_attrs.get(_GOALS) != wanted:
        study.set_user_attr(_GOALS, wanted)
    if study.user_attrs.get(_FORMAT) != FORMAT:
        study.set_user_attr(_FORMAT, FORMAT)
    return study


def differences(was: Mapping[str, str], is_now: Mapping[str, str]) -> list[str]:
    """Names of the facts that differ, in order, each with both values."""
    return [
        f"{name} ({was.get(name) or 'none'} then, {is_now.get(name) or 'none'} now)"
        for name in {**was, **is_now}
        if was.get(name) != is_now.get(name)
    ]


def _aims(goals: Sequence[Mapping[str, Json]]) -> list[str]:
    return [f"{goal['direction']} {goal['metric']}" for goal in goals]


def _attributes(study: Study) -> dict[str, Json]:
    return {name: value for name, value in study.user_attrs.items() if name not in _OWN}


def _entries(study: Study) -> tuple[Entry, ...]:
    problem = study.user_attrs.get(_PROBLEM, {})
    return tuple(_entry(trial, problem) for trial in study.get_trials(deepcopy=False))


def _entry(trial: FrozenTrial, problem: Mapping[str, str]) -> Entry:
    return Entry(
        evaluation=Evaluation.from_json(as_now(trial.user_attrs[_EVALUATION], problem)),
        params=trial.params,
        distributions=trial.distributions,
    )
