"""Bundles in MLflow, and MLflow as a server: away, and served on a run's folder."""

import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from paredown.search.study.pareto import front_of
from paredown.search.tracking.mlflow_models import LoggedBundle
from paredown.search.tracking.mlflow_store import (
    connect,
    default_uri,
    load_mlflow,
    run_address,
)
from paredown.search.tracking.mlflow_writer import TrackingPlace


def test_a_bundle_of_a_candidate_without_a_run_makes_it_one(
    run_folder, goals, make_evaluations, tmp_path, track, children_of, write_bundle
):
    evaluations = make_evaluations(30)
    fronts = [front_of(evaluations[: n + 1], goals).keys for n in range(30)]
    bare = next(e for e in evaluations[10:] if e.key not in frozenset.union(*fronts))
    assert not bare.is_failed
    write_bundle(tmp_path / "bundle")
    place = TrackingPlace(run_folder=run_folder, search_id="s", max_children=3)

    def more(tracker):
        tracker.log_bundle(of_bundle(bare.key, tmp_path / "bundle"))

    tracker = track(place, evaluations, more=more)
    assert tracker.problems == ()
    runs = children_of(connect(tracker.uri), tracker.parent_run_id)
    assert bare.key in {r.data.tags["paredown.key"] for r in runs}


@pytest.mark.parametrize("dies_in", ["finalize_logged_model", "log_outputs"])
def test_a_model_that_was_begun_is_finished_and_not_logged_twice(
    run_folder, make_evaluations, tmp_path, track, monkeypatch, dies_in, write_bundle
):
    evaluations = make_evaluations(1)
    bundle = tmp_path / "bundle"
    write_bundle(bundle)
    place = TrackingPlace(run_folder=run_folder, search_id="s")

    def more(tracker):
        tracker.log_bundle(of_bundle(evaluations[0].key, bundle))

    def dies(*_):
        raise ZeroDivisionError

    with monkeypatch.context() as killed:
        killed.setattr(load_mlflow().MlflowClient, dies_in, dies)
        assert track(place, evaluations, more=more).problems
    tracker = track(place, evaluations, more=more)
    assert tracker.problems == ()
    client = connect(tracker.uri)
    everywhere = [experiment.experiment_id for experiment in client.search_experiments()]
    (model,) = client.search_logged_models(everywhere)
    assert model.status == "READY"
    (named,) = client.get_run(model.source_run_id).outputs.model_outputs
    assert named.model_id == model.model_id


def test_a_server_that_is_away_stops_nothing_and_is_told(tmp_path, make_evaluations, track):
    port = free_port()
    place = TrackingPlace(run_folder=tmp_path, search_id="s", uri=f"http://127.0.0.1:{port}")
    tracker = track(place, make_evaluations(3))
    assert tracker.parent_run_id is None
    assert "5 records are not in MLflow" in tracker.problems[0]
    assert "--resume" in tracker.problems[0]


def test_a_damaged_database_is_told_once(tmp_path, make_evaluations, track):
    with sqlite3.connect(tmp_path / "mlflow.db") as half_made:
        half_made.execute("create table experiments (name text)")
    half_made.close()
    tracker = track(TrackingPlace(run_folder=tmp_path, search_id="s"), make_evaluations(3))
    told, why = tracker.problems
    assert "5 records are not in MLflow" in told
    # MLflow says so in an exception of its own, or hands on the database's.
    assert why.startswith("the search's run: ")
    assert "OperationalError" in why


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_the_served_page_takes_a_search_and_ends_whole_on_a_signal(
    run_folder, make_evaluations, tmp_path, track, children_of, ending, write_bundle
):
    evaluations = make_evaluations(6)
    bundle = tmp_path / "bundle"
    write_bundle(bundle)
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    # A shell that runs the tests in the background has Ctrl-C ignored, and children inherit that.
    # The command turns SIGTERM into an interrupt.
    script = "import signal, sys; "
    script += (
        "[signal.signal(n, signal.default_int_handler) for n in (signal.SIGINT, signal.SIGTERM)]; "
    )
    script += "from paredown.search.tracking.mlflow_page import serve; "
    script += "sys.exit(serve(sys.argv[1], int(sys.argv[2]), str, print))"
    command = [sys.executable, "-uc", script, default_uri(run_folder), str(port)]

    def more(tracker):
        tracker.log_bundle(of_bundle(evaluations[0].key, bundle, register_as="digits"))

    with subprocess.Popen(command, cwd=run_folder, stdout=subprocess.PIPE, text=True) as server:
        try:
            # The address comes once the server answers; MLflow says something before.
            said = iter(server.stdout.readline, "")
            assert uri in (line.strip() for line in said)
            assert answers(f"{uri}/health")
            threading.Thread(target=lambda: list(said), daemon=True).start()
            assert default_uri(run_folder) not in arguments_below(server.pid)
            place = TrackingPlace(run_folder=run_folder, search_id="s", uri=uri)
            tracker = track(place, evaluations, more=more)
            assert tracker.problems == ()
            assert len(children_of(connect(uri), tracker.parent_run_id)) == 6
            assert len(connect(uri).search_model_versions("name = 'digits'")) == 1
            page = run_address(uri, "s", uri)
            assert page.endswith(f"/runs/{tracker.parent_run_id}")
        finally:
            server.send_signal(ending)
            code = server.wait(180)
    assert code == 0
    wait_until(lambda: not answers(f"{uri}/health"))


def arguments_below(pid):
    """Arguments of every process that `pid` has started, and that these have."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    own = (Path(f"/proc/{child}/cmdline").read_text() for child in children)
    return "".join(own) + "".join(map(arguments_below, children))


def of_bundle(key, folder, **more):
    return LoggedBundle(key=key, folder=folder, holds=True, **more)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(url):
    try:
        urllib.request.urlopen(url, timeout=1)
    except OSError:
        return False
    return True


def wait_until(is_so):
    for _ in range(900):
        if is_so():
            return
        time.sleep(0.2)
    raise AssertionError("still not so after three minutes")
