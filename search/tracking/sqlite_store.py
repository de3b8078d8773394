"""A new MLflow database in SQLite: made whole or not at all, whatever dies or comes meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

import filelock

from paredown.spaces.system.errors import ParedownError

_FIRST_BYTES = b"SQLite format 3\0"


class NoDatabaseError(ParedownError):
    """Something else lies where the database should be."""


def make_database(uri: str) -> None:
    """Make the SQLite file of `uri` with MLflow's tables; nothing where it exists, or is no file.

    Raises:
        NoDatabaseError: There is a folder or another file. MLflow would try for two minutes.

    MLflow makes its tables by dozens of migrations, about a second of them, each on disk before
    the next begins. A process killed among them leaves a file that MLflow never opens again
    ("duplicate column name"), so they run on a file beside it, which takes the name in one step.
    """
    if not uri.startswith("sqlite"):
        return
    from sqlalchemy.engine import make_url

    url = make_url(uri)
    if not url.database or url.database.startswith((":memory:", "file:")):
        return
    path = Path(url.database).resolve()
    if _is_there(path):
        return
    from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    # The kernel frees this lock when the process dies, however it dies.
    with filelock.FileLock(f"{path}.lock"):
        if _is_there(path):
            return
        part.unlink(missing_ok=True)
        beside = url.set(database=str(part)).render_as_string(hide_password=False)
        store = SqlAlchemyStore(beside, DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH)
        store.engine.dispose()
        os.replace(part, path)


def _is_there(path: Path) -> bool:
    """Whether `path` holds a database; an empty file is what SQLite takes for a new one."""
    if not path.exists() or (path.is_file() and path.stat().st_size == 0):
        return False
    if path.is_file():
        with path.open("rb") as file:
            if file.read(len(_FIRST_BYTES)) == _FIRST_BYTES:
                return True
    raise NoDatabaseError(
        f"MLflow's store must be an SQLite database, got {path}, which is none; move it away, or "
        "name another one with tracking.uri"
    )
