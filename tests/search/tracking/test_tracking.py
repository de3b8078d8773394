"""Tracking against MLflow's own store in a SQLite file: each evaluation a run, whatever befalls it."""

import json
from dataclasses import replace

import pytest

from paredown.search.study.evaluation import Failure, FailureKind
from paredown.search.study.pareto import Front, front_of
from paredown.search.study.rung import Rung
from paredown.search.tracking.mlflow_store import (
    TrackingError,
    connect,
    find_run,
)
from paredown.search.tracking.mlflow_writer import MlflowWriter, TrackingPlace
from paredown.search.tracking.tracker import Tracker
from paredown.spaces.candidates.candidate import Candidate


def test_a_search_is_one_run_with_one_below_it_for_each_evaluation(
    run_folder, make_evaluations, track, children_of
):
    evaluations = make_evaluations(30)
    tracker = track(TrackingPlace(run_folder=run_folder, search_id="s"), evaluations)
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


def test_the_page_filter_finds_exactly_the_front(
    run_folder, goals, make_evaluations, track, children_of
):
    evaluations = make_evaluations(40)
    tracker = track(TrackingPlace(run_folder=run_folder, search_id="s"), evaluations)
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


def test_a_rescored_candidate_keeps_its_run(run_folder, make_evaluations, track, children_of):
    evaluations = make_evaluations(4)
    better = {**evaluations[3].metrics, "accuracy": 0.5}
    again = replace(evaluations[3], number=4, rung=Rung(number=1), metrics=better)
    place = TrackingPlace(run_folder=run_folder, search_id="s")
    tracker = track(place, (*evaluations, again))
    runs = children_of(connect(tracker.uri), tracker.parent_run_id)
    assert len(runs) == 4
    rescored = next(r for r in runs if r.data.tags["paredown.key"] == again.key)
    assert rescored.data.metrics["accuracy"] == 0.5
    assert rescored.data.tags["paredown.rung"] == "1"


def test_above_the_limit_only_front_references_and_failures_get_runs(
    run_folder, goals, make_evaluations, track, children_of
):
    evaluations = make_evaluations(40)
    place = TrackingPlace(run_folder=run_folder, search_id="s", max_children=10)
    tracker = track(place, evaluations)
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
