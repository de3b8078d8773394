"""Bundles in MLflow: of candidates without a run, and of models whose writing was cut short."""

import pytest

from paredown.search.study.pareto import front_of
from paredown.search.tracking.mlflow_models import LoggedBundle
from paredown.search.tracking.mlflow_store import (
    connect,
    load_mlflow,
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


def of_bundle(key, folder, **more):
    return LoggedBundle(key=key, folder=folder, holds=True, **more)
