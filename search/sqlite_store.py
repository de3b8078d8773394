"""A new MLflow database in SQLite: made whole or not at all, whoever dies or comes along meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

import filelock


def make_database(uri: str) -> None:
    """Make the SQLite file of `uri` with MLflow's tables; nothing where it exists, or is no file.

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
    if path.exists():
        return
    from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    # The kernel frees this lock when the process dies, however it dies.
    with filelock.FileLock(f"{path}.lock"):
        if path.exists():
            return
        part.unlink(missing_ok=True)
        beside = url.set(database=str(part)).render_as_string(hide_password=False)
        store = SqlAlchemyStore(beside, DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH)
        store.engine.dispose()
        os.replace(part, path)
