"""Tracking against MLflow's own stores: a SQLite file and a real server."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from paredown.search.display import Outline
from paredown.search.evaluation import LOST
from paredown.search.mlflow_store import (
    TrackingError,
    connect,
    default_uri,
    find_run,
    server_command,
)
from paredown.search.mlflow_writer import MlflowWriter, TrackingPlace
from paredown.search.pareto import Front, front_of, hypervolume, reference_point
from paredown.search.tracking import Tracker
from paredown.spaces.candidate import Candidate


@pytest.fixture(scope="session")
def template_store(tmp_path_factory):
    """An empty store: its tables take seconds to make and a moment to copy."""
    folder = tmp_path_factory.mktemp("store")
    connect(default_uri(folder)).search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def run_folder(tmp_path, template_store):
    folder = tmp_path / "digits"
    folder.mkdir()
    (folder / "mlflow.db").write_bytes(template_store.read_bytes())
    return folder


@pytest.fixture
def outline(layer_weights):
    return Outline(layer_weights=layer_weights, segments=("stem",), widths={})


def track(place, outline, evaluations, goals, *, more=lambda tracker: None):
    tracker = Tracker(place, outline)
    worst = reference_point(goals, evaluations[0], evaluations[0])
    front = Front(goals)
    for evaluation in evaluations:
        front = front.add(evaluation)
        tracker.record(evaluation, front, hypervolume(front, worst))
    more(tracker)
    tracker.close(timeout_s=60)
    return tracker


def children_of(client, parent, extra=""):
    run = client.get_run(parent)
    text = f"tags.`mlflow.parentRunId` = '{parent}'{extra}"
    return list(client.search_runs([run.info.experiment_id], filter_string=text, max_results=5000))


def test_a_search_is_one_run_with_one_below_it_for_each_evaluation(
    run_folder, outline, goals, make_evaluations
):
    evaluations = make_evaluations(30)
    tracker = track(
        TrackingPlace(run_folder=run_folder, search_id="s"), outline, evaluations, goals
    )
    assert tracker.problems == ()
    client = connect(tracker.uri)
    children = {r.data.tags["paredown.key"]: r for r in children_of(client, tracker.parent_run_id)}
    assert set(children) == {e.key for e in evaluations}
    for evaluation in evaluations:
        run = children[evaluation.key]
        assert run.info.run_name == (evaluation.label or evaluation.key)
        assert run.info.status == ("FAILED" if evaluation.is_failed else "FINISHED")
        assert {n: run.data.metrics[n] for n in evaluation.metrics} == evaluation.metrics
        assert run.data.tags["paredown.kind"] == evaluation.kind
        note = run.data.tags["mlflow.note.content"]
        assert (f"paredown export --mlflow-run {run.info.run_id}" in note) != evaluation.is_failed
    chosen = evaluations[5]
    path = client.download_artifacts(children[chosen.key].info.run_id, "candidate.json")
    with open(path) as file:
        assert Candidate.from_json(json.load(file)) == chosen.candidate


@pytest.mark.parametrize("sittings", [1, 2])
def test_a_candidate_whose_worker_was_lost_is_written_anew_when_it_is_scored(
    sittings, run_folder, outline, goals, make_evaluations
):
    *first, scored = make_evaluations(3)
    lost = replace(scored, metrics={}, error=f"{LOST}: out of memory")
    place = TrackingPlace(run_folder=run_folder, search_id="s")
    if sittings == 2:
        track(place, outline, [*first, lost], goals)
    again = replace(scored, number=3)
    tracker = track(place, outline, [*first, lost, again], goals)
    assert tracker.problems == ()
    runs = children_of(connect(tracker.uri), tracker.parent_run_id)
    assert len(runs) == 3
    (run,) = [r for r in runs if r.data.tags["paredown.key"] == scored.key]
    assert run.info.status == "FINISHED"
    assert {n: run.data.metrics[n] for n in scored.metrics} == scored.metrics
    assert (
        f"paredown export --mlflow-run {run.info.run_id}" in run.data.tags["mlflow.note.content"]
    )


def test_the_page_filter_finds_exactly_the_front(run_folder, outline, goals, make_evaluations):
    evaluations = make_evaluations(40)
    tracker = track(
        TrackingPlace(run_folder=run_folder, search_id="s"), outline, evaluations, goals
    )
    client = connect(tracker.uri)
    found = children_of(client, tracker.parent_run_id, ' and tags.pareto = "true"')
    front = front_of(evaluations, goals)
    assert {run.data.tags["paredown.key"] for run in found} == front.keys
    parent = client.get_run(tracker.parent_run_id)
    for run in found:
        link = f"(#/experiments/{run.info.experiment_id}/runs/{run.info.run_id})"
        assert link in parent.data.tags["mlflow.note.content"]
    sizes = client.get_metric_history(tracker.parent_run_id, "front_size")
    assert sorted(m.step for m in sizes) == list(range(40))
    assert parent.data.metrics["front_size"] == len(front.members)


def test_a_resumed_search_goes_on_in_the_same_runs(run_folder, outline, goals, make_evaluations):
    evaluations = make_evaluations(20)
    place = TrackingPlace(run_folder=run_folder, search_id="s")
    first = track(place, outline, evaluations[:12], goals)
    second = track(place, outline, evaluations, goals)
    assert second.problems == ()
    assert second.parent_run_id == first.parent_run_id
    client = connect(second.uri)
    keys = [r.data.tags["paredown.key"] for r in children_of(client, second.parent_run_id)]
    assert sorted(keys) == sorted({e.key for e in evaluations})
    sizes = client.get_metric_history(second.parent_run_id, "front_size")
    assert sorted(m.step for m in sizes) == list(range(20))
    found = children_of(client, second.parent_run_id, ' and tags.pareto = "true"')
    assert {r.data.tags["paredown.key"] for r in found} == front_of(evaluations, goals).keys


def test_a_rescored_candidate_keeps_its_run(run_folder, outline, goals, make_evaluations):
    evaluations = make_evaluations(4)
    better = {**evaluations[3].metrics, "accuracy": 0.5}
    again = replace(evaluations[3], number=4, rung=1, metrics=better)
    place = TrackingPlace(run_folder=run_folder, search_id="s")
    tracker = track(place, outline, (*evaluations, again), goals)
    runs = children_of(connect(tracker.uri), tracker.parent_run_id)
    assert len(runs) == 4
    rescored = next(r for r in runs if r.data.tags["paredown.key"] == again.key)
    assert rescored.data.metrics["accuracy"] == 0.5
    assert rescored.data.tags["paredown.rung"] == "1"


def test_above_the_limit_only_front_references_and_failures_get_runs(
    run_folder, outline, goals, make_evaluations
):
    evaluations = make_evaluations(40)
    place = TrackingPlace(run_folder=run_folder, search_id="s", max_children=10)
    tracker = track(place, outline, evaluations, goals)
    assert tracker.problems == ()
    client = connect(tracker.uri)
    keys = {r.data.tags["paredown.key"] for r in children_of(client, tracker.parent_run_id)}
    must = front_of(evaluations, goals).keys | {e.key for e in evaluations if e.is_failed}
    assert must | {e.key for e in evaluations[:10]} <= keys < {e.key for e in evaluations}
    with open(client.download_artifacts(tracker.parent_run_id, "evaluations.json")) as file:
        table = json.load(file)
    column = table["columns"].index("key")
    assert [row[column] for row in table["data"]] == [e.key for e in evaluations]


def test_a_run_leads_back_to_its_folder_and_candidate(
    run_folder, outline, goals, make_evaluations
):
    evaluations = make_evaluations(4)
    place = TrackingPlace(run_folder=run_folder, search_id="s")
    tracker = track(place, outline, evaluations, goals)
    client = connect(tracker.uri)
    for run in children_of(client, tracker.parent_run_id):
        found = find_run(tracker.uri, run.info.run_id)
        assert found == (run_folder.resolve(), run.data.tags["paredown.key"])
    with pytest.raises(TrackingError, match="below the search's own"):
        find_run(tracker.uri, tracker.parent_run_id)
    with pytest.raises(TrackingError, match="must exist"):
        find_run(tracker.uri, "0" * 32)


def test_what_is_on_its_way_is_not_missing_and_what_is_drained_is_written(
    run_folder, outline, goals, make_evaluations
):
    tracker = Tracker(TrackingPlace(run_folder=run_folder, search_id="s"), outline)
    evaluation = make_evaluations(1)[0]
    tracker.record(evaluation, Front(goals).add(evaluation), 0.0)
    assert not any("not in MLflow" in problem for problem in tracker.problems)
    tracker.drain()
    assert tracker.problems == ()
    assert len(children_of(connect(tracker.uri), tracker.parent_run_id)) == 1
    tracker.close()


def test_an_error_of_any_kind_is_told_and_the_writer_goes_on(
    run_folder, outline, goals, make_evaluations, monkeypatch
):
    write = MlflowWriter.record

    def broken(self, evaluation, front, volume):
        if evaluation.number == 1:
            raise ZeroDivisionError("made to fail")
        write(self, evaluation, front, volume)

    monkeypatch.setattr(MlflowWriter, "record", broken)
    place = TrackingPlace(run_folder=run_folder, search_id="s")
    evaluations = make_evaluations(2) + make_evaluations(6)[4:]
    tracker = track(place, outline, evaluations, goals)
    assert tracker.problems[0].startswith("1 records are not in MLflow")
    assert tracker.problems[1:] == ("evaluation 1: ZeroDivisionError: made to fail",)
    client = connect(tracker.uri)
    keys = {r.data.tags["paredown.key"] for r in children_of(client, tracker.parent_run_id)}
    assert {e.key for e in evaluations if e.number != 1} <= keys
    assert client.get_run(tracker.parent_run_id).info.status == "FINISHED"


def test_a_bundle_of_a_candidate_without_a_run_makes_it_one(
    run_folder, outline, goals, make_evaluations, tmp_path
):
    evaluations = make_evaluations(30)
    fronts = [front_of(evaluations[: n + 1], goals).keys for n in range(30)]
    bare = next(e for e in evaluations[10:] if e.key not in frozenset.union(*fronts))
    assert not bare.is_failed
    write_bundle(tmp_path / "bundle")
    place = TrackingPlace(run_folder=run_folder, search_id="s", max_children=3)
    more = lambda tracker: tracker.log_bundle(bare.key, tmp_path / "bundle")  # noqa: E731
    tracker = track(place, outline, evaluations, goals, more=more)
    assert tracker.problems == ()
    runs = children_of(connect(tracker.uri), tracker.parent_run_id)
    assert bare.key in {r.data.tags["paredown.key"] for r in runs}


def write_bundle(folder):
    folder.mkdir(parents=True)
    weight = numpy_helper.from_array(np.eye(3, dtype=np.float32), "weight")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weight"], ["y"])],
        "identity",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, folder / "model.onnx")
    (folder / "card.json").write_text("{}")


def test_a_bundle_is_logged_registered_and_loads_again(
    run_folder, outline, goals, make_evaluations, tmp_path
):
    evaluations = make_evaluations(4)
    key = evaluations[3].key
    bundle = tmp_path / "bundles" / key
    write_bundle(bundle)
    place = TrackingPlace(run_folder=run_folder, search_id="s")
    tracker = track(
        place, outline, evaluations, goals, more=lambda t: t.log_bundle(key, bundle, "digits")
    )
    assert tracker.problems == ()
    client = connect(tracker.uri)
    run = next(
        r for r in children_of(client, tracker.parent_run_id) if r.data.tags["paredown.key"] == key
    )
    names = {file.path for file in client.list_artifacts(run.info.run_id, "bundle")}
    assert names == {"bundle/model.onnx", "bundle/card.json"}
    version = client.search_model_versions("name = 'digits'")[0]
    assert version.run_id == run.info.run_id
    (logged,) = client.get_run(run.info.run_id).outputs.model_outputs
    model = client.get_logged_model(logged.model_id)
    assert model.status == "READY"
    assert version.source == model.artifact_location
    folder = model.artifact_location.removeprefix("file://")
    assert onnx.load(f"{folder}/model.onnx") == onnx.load(bundle / "model.onnx")


def test_a_server_that_is_away_stops_nothing_and_is_told(
    tmp_path, outline, goals, make_evaluations
):
    port = free_port()
    place = TrackingPlace(run_folder=tmp_path, search_id="s", uri=f"http://127.0.0.1:{port}")
    tracker = track(place, outline, make_evaluations(3), goals)
    assert tracker.parent_run_id is None
    assert "5 records are not in MLflow" in tracker.problems[0]
    assert "--resume" in tracker.problems[0]


def test_the_served_page_takes_a_search_and_ends_whole_on_interrupt(
    run_folder, outline, goals, make_evaluations, tmp_path
):
    evaluations = make_evaluations(6)
    bundle = tmp_path / "bundle"
    write_bundle(bundle)
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    # A shell that runs the tests in the background has Ctrl-C ignored, and children inherit that.
    script = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    script += "from paredown.search.mlflow_store import serve; "
    script += "sys.exit(serve(sys.argv[1], int(sys.argv[2]), print))"
    command = [sys.executable, "-uc", script, default_uri(run_folder), str(port)]
    with subprocess.Popen(command, cwd=run_folder, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout.readline().strip() == uri
            wait_until(lambda: answers(f"{uri}/health"))
            place = TrackingPlace(run_folder=run_folder, search_id="s", uri=uri)
            key = evaluations[0].key
            log = lambda tracker: tracker.log_bundle(key, bundle, "digits")  # noqa: E731
            tracker = track(place, outline, evaluations, goals, more=log)
            assert tracker.problems == ()
            assert len(children_of(connect(uri), tracker.parent_run_id)) == 6
            assert len(connect(uri).search_model_versions("name = 'digits'")) == 1
        finally:
            server.send_signal(signal.SIGINT)
            code = server.wait(20)
    assert code == 0
    wait_until(lambda: not answers(f"{uri}/health"))


def test_a_server_cannot_be_served_again():
    with pytest.raises(TrackingError, match="open http://"):
        server_command("http://127.0.0.1:5000", 5001)


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
    for _ in range(300):
        if is_so():
            return
        time.sleep(0.2)
    raise AssertionError("still not so after a minute")
