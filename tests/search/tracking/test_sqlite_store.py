"""Making MLflow's database: killed midway, by two at once, and where there is no file to make."""

import os
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from paredown.search.tracking.mlflow_store import connect, default_uri, experiment_id_of
from paredown.search.tracking.mlflow_writer import TrackingPlace
from paredown.search.tracking.sqlite_store import NoDatabaseError, make_database

STUCK = """\
import itertools, sys, time
from sqlalchemy import event
from sqlalchemy.engine import Engine
from paredown.search.tracking.mlflow_store import connect

commits = itertools.count()

def stuck_in_the_middle(_):
    if next(commits) == 20:
        print("stuck", flush=True)
        time.sleep(600)

event.listen(Engine, "commit", stuck_in_the_middle)
connect(sys.argv[1])
"""
MAKE = (
    "import sys; from paredown.search.tracking.mlflow_store import connect; connect(sys.argv[1])"
)


def test_a_process_killed_while_it_makes_the_database_leaves_none(tmp_path):
    path = tmp_path / "a run" / "mlflow.db"
    uri = f"sqlite:///{path}"
    part = path.with_name(".mlflow.db.part")
    with subprocess.Popen(
        [sys.executable, "-c", STUCK, uri], stdout=subprocess.PIPE, text=True
    ) as process:
        said = process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
    assert said == "stuck\n"
    assert part.stat().st_size > 0
    assert not path.exists()

    client = connect(uri)
    assert client.get_experiment(experiment_id_of(client, "digits", None)).name == "digits"
    assert not part.exists()


def test_two_processes_that_make_one_database_lose_nothing(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    script = f"{MAKE}.create_experiment(sys.argv[2])"
    with ThreadPoolExecutor(2) as pool:
        ended = pool.map(
            lambda name: subprocess.run([sys.executable, "-c", script, uri, name], check=False),
            ("one", "other"),
        )
        assert [process.returncode for process in ended] == [0, 0]
    names = {experiment.name for experiment in connect(uri).search_experiments()}
    assert {"one", "other"} <= names


def test_a_database_that_exists_is_left_as_it_is(tmp_path):
    path = tmp_path / "mlflow.db"
    with sqlite3.connect(path) as database:
        database.execute("create table whatever (it, is_)")
    database.close()
    before = path.read_bytes()
    make_database(f"sqlite:///{path}")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_empty_file_becomes_a_database(tmp_path, empty_store):
    path = tmp_path / "mlflow.db"
    path.touch()
    make_database(f"sqlite:///{path}")
    assert tables_of(path) == tables_of(empty_store)


def tables_of(path):
    with sqlite3.connect(path) as database:
        names = database.execute("select name from sqlite_master where type = 'table'").fetchall()
    database.close()
    return set(names)


@pytest.mark.parametrize("content", [b"whatever it is", None])
def test_anything_else_in_its_place_is_told_and_kept(
    content, tmp_path, make_evaluations, track, run_folder
):
    path = run_folder / "mlflow.db"
    path.unlink()
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(NoDatabaseError, match=r"got .*mlflow\.db, which is none; move it away"):
        connect(default_uri(run_folder))
    tracker = track(TrackingPlace(run_folder=run_folder, search_id="s"), make_evaluations(2))
    assert "which is none" in tracker.problems[-1]
    assert path.is_dir() if content is None else path.read_bytes() == content


@pytest.mark.parametrize(
    "uri",
    ["sqlite://", "sqlite:///:memory:", "http://127.0.0.1:5000", "postgresql://a:b@127.0.0.1/c"],
)
def test_only_files_are_made(uri, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_database(uri)
    assert list(tmp_path.iterdir()) == []
