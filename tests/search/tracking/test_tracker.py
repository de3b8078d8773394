"""Tracking against a store in SQLite: nothing that happens to MLflow loses a record or ends a search."""

import socket
import sqlite3
from dataclasses import replace

import pytest

from paredown.search.study.evaluation import Failure, FailureKind
from paredown.search.study.pareto import Front, front_of
from paredown.search.tracking.mlflow_store import (
    TrackingError,
    connect,
    find_run,
)
from paredown.search.tracking.mlflow_writer import MlflowWriter, TrackingPlace
from paredown.search.tracking.tracker import Tracker


@pytest.mark.parametrize("sittings", [1, 2])
def test_a_candidate_whose_worker_was_lost_is_written_anew_when_it_is_scored(
    sittings, run_folder, make_evaluations, track, children_of
):
    *first, scored = make_evaluations(3)
    lost = replace(
        scored, metrics={}, failure=Failure.of_text(FailureKind.WORKER_LOST, "out of memory")
    )
    place = TrackingPlace(run_folder=run_folder, search_id="s")
    if sittings == 2:
        track(place, [*first, lost])
    again = replace(scored, number=3)
    tracker = track(place, [*first, lost, again])
    assert tracker.problems == ()
    runs = children_of(connect(tracker.uri), tracker.parent_run_id)
    assert len(runs) == 3
    (run,) = [r for r in runs if r.data.tags["paredown.key"] == scored.key]
    assert run.info.status == "FINISHED"
    assert {n: run.data.metrics[n] for n in scored.metrics} == scored.metrics
    assert (
        f"paredown export --mlflow-run {run.info.run_id}" in run.data.tags["mlflow.note.content"]
    )


def test_a_resumed_search_goes_on_in_the_same_runs(
    run_folder, goals, make_evaluations, track, children_of
):
    evaluations = make_evaluations(20)
    place = TrackingPlace(run_folder=run_folder, search_id="s")
    first = track(place, evaluations[:12])
    second = track(place, evaluations)
    assert second.problems == ()
    assert second.parent_run_id == first.parent_run_id
    client = connect(second.uri)
    keys = [r.data.tags["paredown.key"] for r in children_of(client, second.parent_run_id)]
    assert sorted(keys) == sorted({e.key for e in evaluations})
    sizes = client.get_metric_history(second.parent_run_id, "front_size")
    assert sorted(m.step for m in sizes) == list(range(20))
    found = children_of(client, second.parent_run_id, ' and tags.pareto = "true"')
    assert {r.data.tags["paredown.key"] for r in found} == front_of(evaluations, goals).keys


def test_a_run_leads_back_to_its_folder_and_candidate(
    run_folder, make_evaluations, track, children_of
):
    evaluations = make_evaluations(4)
    place = TrackingPlace(run_folder=run_folder, search_id="s")
    tracker = track(place, evaluations)
    client = connect(tracker.uri)
    for run in children_of(client, tracker.parent_run_id):
        found = find_run(tracker.uri, run.info.run_id)
        assert found == (run_folder.resolve(), run.data.tags["paredown.key"])
    with pytest.raises(TrackingError, match="below the search's own"):
        find_run(tracker.uri, tracker.parent_run_id)
    with pytest.raises(TrackingError, match="must exist"):
        find_run(tracker.uri, "0" * 32)


def test_figures_of_the_whole_search_stand_in_its_run(run_folder, outline):
    tracker = Tracker(TrackingPlace(run_folder=run_folder, search_id="s"), outline)
    tracker.log_metrics({"recovery/accuracy_within_80": 0.75})
    tracker.close()
    run = connect(tracker.uri).get_run(tracker.parent_run_id)
    assert run.data.metrics == {"recovery/accuracy_within_80": 0.75}


def test_what_is_on_its_way_is_not_missing_and_what_is_drained_is_written(
    run_folder, outline, goals, make_evaluations, children_of
):
    tracker = Tracker(TrackingPlace(run_folder=run_folder, search_id="s"), outline)
    evaluation = make_evaluations(1)[0]
    tracker.record(evaluation, Front(goals).add(evaluation), 0.0)
    assert not any("not in MLflow" in problem for problem in tracker.problems)
    tracker.drain(timeout_s=180)
    assert tracker.problems == ()
    assert len(children_of(connect(tracker.uri), tracker.parent_run_id)) == 1
    tracker.close()


def test_an_error_of_any_kind_is_told_and_the_writer_goes_on(
    run_folder, make_evaluations, monkeypatch, track, children_of
):
    write = MlflowWriter.record

    def broken(self, evaluation, front, volume):
        if evaluation.number == 1:
            raise ZeroDivisionError("made to fail")
        write(self, evaluation, front, volume)

    monkeypatch.setattr(MlflowWriter, "record", broken)
    place = TrackingPlace(run_folder=run_folder, search_id="s")
    evaluations = make_evaluations(2) + make_evaluations(6)[4:]
    tracker = track(place, evaluations)
    assert tracker.problems[0].startswith("1 records are not in MLflow")
    assert tracker.problems[1:] == ("evaluation 1: ZeroDivisionError: made to fail",)
    client = connect(tracker.uri)
    keys = {r.data.tags["paredown.key"] for r in children_of(client, tracker.parent_run_id)}
    assert {e.key for e in evaluations if e.number != 1} <= keys
    assert client.get_run(tracker.parent_run_id).info.status == "FINISHED"


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


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
