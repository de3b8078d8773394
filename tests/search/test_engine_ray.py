"""The same jobs on real Ray workers: same scores, same order, and a death that stops nothing."""

import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from paredown.search.config import load_config
from paredown.search.coordinator import Coordinator, Job
from paredown.search.engine_local import run_local
from paredown.search.engine_ray import run_ray
from paredown.search.evaluation import Evaluation
from paredown.search.latency_source import uniform
from paredown.search.workbench import prepare

pytestmark = pytest.mark.cluster

CONFIG = """\
task: {name: digits}
goals: [{metric: accuracy}, {metric: onnx_bytes}]
hardware: {latency: roofline}
search: {engine: ray, workers: 2}
"""
FATAL_ROWS = 13


@dataclass(frozen=True)
class Deadly:
    """A loss that ends the process on a batch of `FATAL_ROWS`, as the out-of-memory killer would."""

    inner: object

    def __call__(self, outputs, targets):
        if len(targets) == FATAL_ROWS:
            os._exit(1)
        return self.inner(outputs, targets)


@dataclass(frozen=True)
class Signing:
    """A loss that signs with its Ray node's name and waits until two nodes have signed."""

    inner: object
    folder: str

    def __call__(self, outputs, targets):
        import ray

        folder = Path(self.folder)
        (folder / ray.get_runtime_context().get_node_id()).touch()
        deadline = time.monotonic() + 60
        while len(list(folder.iterdir())) < 2:
            if time.monotonic() > deadline:
                raise TimeoutError("only one node works")
            time.sleep(0.05)
        return self.inner(outputs, targets)


@pytest.fixture(scope="module", autouse=True)
def _sent_by_value():
    """Workers cannot import this file, so its classes travel with the evaluator."""
    from ray import cloudpickle

    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture(scope="module")
def workbench(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "digits.yaml"
    path.write_text(CONFIG)
    return prepare(load_config(path))


@pytest.fixture(scope="module")
def jobs(workbench):
    return [
        Job(candidate=uniform(workbench.space, "", bits), rows=96, label=f"{bits} bits")
        for bits in (8, 6, 4, 3)
    ]


def coordinate(jobs):
    """A coordinator of these jobs alone, and the list of (job, outcome) that it tells."""
    told = []

    def tell(job, outcome):
        told.append((job, outcome))
        return Evaluation(number=len(told), key=job.candidate.key, candidate=job.candidate)

    coordinator = Coordinator(
        proposer=None, first=list(jobs), evaluations=len(jobs), batch=1, rows=None, tell=tell
    )
    return coordinator, told


@pytest.fixture(scope="module")
def local_scores(workbench, jobs):
    coordinator, told = coordinate(jobs)
    run_local(coordinator, workbench.evaluator, 1)
    assert [job for job, _ in told] == jobs
    return {job.name: outcome.score for job, outcome in told}


def test_workers_score_as_this_process_does_and_a_death_is_one_failure(
    workbench, jobs, local_scores
):
    dying = Job(candidate=uniform(workbench.space, "", 5), rows=FATAL_ROWS)
    asked = [*jobs[:2], dying, *jobs[2:]]
    coordinator, told = coordinate(asked)
    evaluator = replace(workbench.evaluator, loss=Deadly(workbench.evaluator.loss))
    run_ray(coordinator, evaluator, workbench.config.search, "")
    assert [job for job, _ in told] == asked
    outcomes = {job.name: outcome for job, outcome in told}
    lost = outcomes.pop(dying.name)
    assert lost.score is None
    assert "WorkerDied" in lost.error
    for name, outcome in outcomes.items():
        assert outcome.error is None
        assert outcome.score.metric == local_scores[name].metric
        assert outcome.score.loss == pytest.approx(local_scores[name].loss, rel=1e-5)
    assert coordinator.is_done


def test_a_cluster_of_two_nodes_shares_the_work(workbench, jobs, local_scores, tmp_path):
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        coordinator, told = coordinate(jobs)
        evaluator = replace(
            workbench.evaluator, loss=Signing(workbench.evaluator.loss, str(tmp_path))
        )
        section = workbench.config.search.model_copy(update={"ray_address": cluster.address})
        run_ray(coordinator, evaluator, section, "")
    finally:
        cluster.shutdown()
    assert [job for job, _ in told] == jobs
    for job, outcome in told:
        assert outcome.error is None
        assert outcome.score.metric == local_scores[job.name].metric
    assert len(list(tmp_path.iterdir())) == 2
