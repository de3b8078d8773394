"""Folders for what a process needs while it runs; those of killed processes are swept by the next.

Each lies beside a lock that its process holds. The kernel frees the lock when the process dies,
however it dies, so that a folder whose lock can be had belongs to nobody.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

_PREFIX = "paredown-"
_LOCK = ".lock"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder, removed at the end with all that is in it; sweeps those of the dead first."""
    place = Path(tempfile.gettempdir())
    _sweep(place)
    lock, folder = _made(place)
    try:
        yield folder
    finally:
        # What a process that was just ended still writes must not keep the rest from going.
        shutil.rmtree(folder, ignore_errors=True)
        _forget(lock)


def _made(place: Path) -> tuple[filelock.FileLock, Path]:
    while True:
        folder = place / f"{_PREFIX}{uuid.uuid4().hex[:8]}"
        lock = filelock.FileLock(f"{folder}{_LOCK}")
        lock.acquire()
        # A sweep may have come between making the lock's file and holding it.
        if Path(lock.lock_file).exists() and not folder.exists():
            folder.mkdir(mode=0o700)
            return lock, folder
        lock.release()


def _sweep(place: Path) -> None:
    for path in place.glob(f"{_PREFIX}*{_LOCK}"):
        lock = filelock.FileLock(path)
        try:
            lock.acquire(timeout=0)
        except (filelock.Timeout, OSError):  # in use, or another user's
            continue
        shutil.rmtree(path.with_suffix(""), ignore_errors=True)
        _forget(lock)


def _forget(lock: filelock.FileLock) -> None:
    # Before the release: behind it the file may be another's to hold.
    Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()
