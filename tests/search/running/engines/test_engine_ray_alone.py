"""What the Ray engine decides without Ray: why a worker was lost, and that a cluster is away."""

import json

import pytest

from paredown.search.config.schema import SearchSection
from paredown.search.proposing.jobs import Outcome
from paredown.search.running.engines.engine_ray import check_cluster
from paredown.search.running.engines.ray_resources import ClusterError
from paredown.search.running.engines.ray_trials import outcome_of
from paredown.search.study.evaluation import Failure, FailureKind, Score


def test_a_lost_worker_is_reported_in_the_last_words_of_ray():
    reason = "\n".join(
        ["Failure # 1", *(f"  frame {n}" for n in range(50)), "", "Died: no memory"]
    )
    outcome = outcome_of(None, True, reason)
    assert outcome.score is None
    assert outcome.failure.kind is FailureKind.WORKER_LOST
    assert outcome.failure.where.endswith("Died: no memory")
    assert "frame 49" in outcome.failure.where
    assert "frame 10" not in outcome.failure.where


@pytest.mark.parametrize("result", [None, {}, {"duration_s": 0.5}])
def test_a_trial_without_a_result_is_lost_and_never_without_a_word(result):
    failure = outcome_of(result, False, "").failure
    assert (failure.kind, failure.where) == (FailureKind.WORKER_LOST, "Ray gave no reason")


def test_a_candidate_that_raised_is_no_lost_worker():
    raised = Failure.of_text(FailureKind.RAISED, "ZeroDivisionError: x")
    score = Score(metric=0.9, loss=0.3, images=8, trained="ab")
    for outcome in (
        Outcome(score=None, failure=raised, duration_s=0.5),
        Outcome(score=score, failure=None, duration_s=1 / 3),
    ):
        reported = {"outcome": json.dumps(outcome.to_json()), "duration_s": outcome.duration_s}
        assert outcome_of(reported, False, "") == outcome


@pytest.mark.parametrize("error", [ConnectionError("nobody listens"), RuntimeError("Ray 1.0")])
def test_a_cluster_that_cannot_be_joined_is_reported_with_its_address(error, monkeypatch):
    def refuse(address, **_):
        raise error

    monkeypatch.setattr("ray.init", refuse)
    section = SearchSection(ray_address="10.0.0.1:6379")
    with pytest.raises(
        ClusterError, match=rf"search\.ray_address .* 10\.0\.0\.1:6379 \({error}\)"
    ):
        check_cluster(section)


def test_a_local_cluster_without_gpus_needs_no_look(monkeypatch):
    monkeypatch.delattr("ray.init")
    check_cluster(SearchSection(workers=512, cpus_per_worker=64))
