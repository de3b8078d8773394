"""The runs below a folder: how each stands, what it holds and how large it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import filelock

from paredown.search.study.journal import JournalError
from paredown.search.study.run_record import JOURNAL, RunRecord, read_run

Condition = Literal["searching", "finished", "interrupted", "failed", "killed", "ended", "damaged"]
"""`killed`: its process died. `ended`: an earlier version wrote it and did not note how."""

_ENDS: dict[str, Condition] = {
    "FINISHED": "finished",
    "KILLED": "interrupted",
    "FAILED": "failed",
    "": "killed",
}


@dataclass(frozen=True, kw_only=True)
class KnownRun:
    """One run folder; counts are 0 where its journal cannot be read, and `problem` says why."""

    folder: Path
    condition: Condition
    evaluations: int
    failures: int
    front_size: int
    size_bytes: int
    changed_s: float
    problem: str = ""


def known_runs(folder: Path) -> tuple[KnownRun, ...]:
    """Runs in `folder` and in the folders below it, the one changed last first.

    `changed_s` counts from the Unix epoch.
    """
    found = [_read(each) for each in _run_folders(folder)]
    return tuple(sorted(found, key=lambda run: run.changed_s, reverse=True))


def _run_folders(folder: Path) -> Iterator[Path]:
    if (folder / JOURNAL).is_file():
        yield folder
        return  # a run holds no runs
    for below in sorted(folder.iterdir()):
        if below.is_dir() and not below.is_symlink():
            yield from _run_folders(below)


def _read(folder: Path) -> KnownRun:
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    size_bytes = sum(path.stat().st_size for path in files)
    changed_s = (folder / JOURNAL).stat().st_mtime
    try:
        record, problem = read_run(folder), ""
    except JournalError as error:
        record, problem = None, str(error)
    return KnownRun(
        folder=folder,
        condition=_condition(folder, record),
        evaluations=0 if record is None else len(record.evaluations),
        failures=0 if record is None else sum(e.is_failed for e in record.evaluations),
        front_size=0 if record is None else len(record.front.members),
        size_bytes=size_bytes,
        changed_s=changed_s,
        problem=problem,
    )


def _condition(folder: Path, record: RunRecord | None) -> Condition:
    if _is_held(folder / JOURNAL):
        return "searching"
    if record is None:
        return "damaged"
    return "ended" if record.end is None else _ENDS[record.end]


def _is_held(journal: Path) -> bool:
    """Whether a process is searching; nothing is written to a run where none ever was."""
    path = Path(f"{journal}.lock")
    if not path.exists():
        return False
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except (filelock.Timeout, OSError):
        return True
    lock.release()
    return False
