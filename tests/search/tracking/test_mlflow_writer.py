"""What the writer puts into MLflow: a run for each evaluation, and the tags of the front."""

import json
from dataclasses import replace

from paredown.search.study.pareto import front_of
from paredown.search.study.rung import Rung
from paredown.search.tracking.mlflow_store import (
    connect,
)
from paredown.search.tracking.mlflow_writer import TrackingPlace
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
