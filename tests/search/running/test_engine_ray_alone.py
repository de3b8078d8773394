"""What the Ray engine decides without Ray: why a worker was lost, and that a cluster is away."""

import pytest

from paredown.search.config.schema import SearchSection
from paredown.search.running.engine_ray import _outcome, check_cluster
from paredown.search.running.ray_resources import RayFailed
from paredown.search.study.evaluation import LOST, Score


def test_a_lost_worker_is_reported_in_the_last_words_of_ray():
    reason = "\n".join(
        ["Failure # 1", *(f"  frame {n}" for n in range(50)), "", "Died: no memory"]
    )
    outcome = _outcome(None, True, reason)
    assert outcome.score is None
    assert outcome.error.startswith(LOST)
    assert outcome.error.endswith("Died: no memory")
    assert "frame 49" in outcome.error
    assert "frame 10" not in outcome.error


@pytest.mark.parametrize("result", [None, {}, {"error": None}])
def test_a_trial_without_a_result_is_lost_and_never_without_a_word(result):
    outcome = _outcome(result, False, "")
    assert outcome.error.startswith(LOST)
    assert "Ray gave no reason" in outcome.error


def test_a_candidate_that_raised_is_no_lost_worker():
    result = {"score": None, "error": "ZeroDivisionError: x", "duration_s": 0.5}
    assert _outcome(result, False, "").error == "ZeroDivisionError: x"
    scored = _outcome({**result, "score": (0.9, 0.3, 8), "error": None}, False, "")
    assert scored.score == Score(metric=0.9, loss=0.3, images=8)


@pytest.mark.parametrize("error", [ConnectionError("nobody listens"), RuntimeError("Ray 1.0")])
def test_a_cluster_that_cannot_be_joined_is_reported_with_its_address(error, monkeypatch):
    def refuse(address, **_):
        raise error

    monkeypatch.setattr("ray.init", refuse)
    section = SearchSection(ray_address="10.0.0.1:6379")
    with pytest.raises(RayFailed, match=rf"search\.ray_address .* 10\.0\.0\.1:6379 \({error}\)"):
        check_cluster(section)


def test_a_local_cluster_without_gpus_needs_no_look(monkeypatch):
    monkeypatch.delattr("ray.init")
    check_cluster(SearchSection(workers=512, cpus_per_worker=64))
