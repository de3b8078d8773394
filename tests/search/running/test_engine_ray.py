"""The same jobs on real Ray workers: same scores, same order, and a death that stops nothing."""

import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from paredown.search.calibrating.drawing import uniform
from paredown.search.config.reading import load_config
from paredown.search.evaluating.workbench import prepare
from paredown.search.proposing.coordinator import Coordinator, Job
from paredown.search.proposing.proposer import Proposer, make_sampler
from paredown.search.running.engine_local import local_engine
from paredown.search.running.engine_ray import ClusterError, RayEngine, ray_cluster
from paredown.search.running.ray_trials import MOST_LOST
from paredown.search.study.evaluation import Evaluation, FailureKind, Goal
from paredown.search.study.rung import Rung
from paredown.spaces.knobs.space import Space
from paredown.spaces.knobs.weight_bits import WeightBitsKnob

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
        deadline = time.monotonic() + 180
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
        Job(candidate=uniform(workbench.space, "", bits), rung=Rung(rows=96), label=f"{bits} bits")
        for bits in (8, 6, 4, 3)
    ]


@dataclass(frozen=True)
class Placed:
    """A loss that leaves the address of its Ray node."""

    inner: object
    folder: str

    def __call__(self, outputs, targets):
        import ray

        (Path(self.folder) / ray.util.get_node_ip_address()).touch()
        return self.inner(outputs, targets)


@dataclass(frozen=True)
class Numbered:
    """A loss that leaves the number of its process, then waits for a second one; equally long for all."""

    inner: object
    folder: str

    def __call__(self, outputs, targets):
        folder = Path(self.folder)
        (folder / str(os.getpid())).touch()
        deadline = time.monotonic() + 180
        while len(list(folder.iterdir())) < 2:
            if time.monotonic() > deadline:
                raise TimeoutError("only one worker works")
            time.sleep(0.05)
        time.sleep(0.3)
        return self.inner(outputs, targets)


def carry_out(coordinator, evaluator, section):
    with ray_cluster(section):
        RayEngine(evaluator, section).run(coordinator)


def coordinate(jobs):
    """A coordinator of these jobs alone, and the list of (job, outcome) that it tells."""
    told = []

    def tell(job, outcome):
        told.append((job, outcome))
        return Evaluation(number=len(told), key=job.candidate.key, candidate=job.candidate)

    coordinator = Coordinator(
        proposer=None, first=list(jobs), evaluations=len(jobs), batch=1, rung=Rung(), tell=tell
    )
    return coordinator, told


@pytest.fixture(scope="module")
def local_scores(workbench, jobs):
    coordinator, told = coordinate(jobs)
    with local_engine(workbench.evaluator, workbench.config.search) as engine:
        engine.run(coordinator)
    assert [job for job, _ in told] == jobs
    return {job.name: outcome.score for job, outcome in told}


def test_workers_score_as_this_process_does_and_a_death_is_one_failure(
    workbench, jobs, local_scores
):
    dying = Job(candidate=uniform(workbench.space, "", 5), rung=Rung(rows=FATAL_ROWS))
    asked = [*jobs[:2], dying, *jobs[2:]]
    coordinator, told = coordinate(asked)
    evaluator = replace(workbench.evaluator, loss=Deadly(workbench.evaluator.loss))
    carry_out(coordinator, evaluator, workbench.config.search)
    assert [job for job, _ in told] == asked
    outcomes = {job.name: outcome for job, outcome in told}
    lost = outcomes.pop(dying.name)
    assert lost.score is None
    assert lost.failure.kind is FailureKind.WORKER_LOST
    # Ray's own words, whatever the reason.
    assert "actor" in lost.failure.where.lower()
    for name, outcome in outcomes.items():
        assert outcome.failure is None
        assert outcome.score.metric == local_scores[name].metric
        assert outcome.score.loss == pytest.approx(local_scores[name].loss, rel=1e-5)
    assert coordinator.is_done


def test_workers_that_end_one_after_the_other_end_the_search_with_the_reason(workbench):
    asked = [
        Job(candidate=uniform(workbench.space, "", b), rung=Rung(rows=FATAL_ROWS))
        for b in range(2, 9)
    ]
    coordinator, told = coordinate(asked)
    evaluator = replace(workbench.evaluator, loss=Deadly(workbench.evaluator.loss))
    with pytest.raises(ClusterError, match="in a row") as raised:
        carry_out(coordinator, evaluator, workbench.config.search)
    assert "actor" in str(raised.value).lower()
    assert MOST_LOST <= len(told) < len(asked)
    assert all(outcome.failure.kind is FailureKind.WORKER_LOST for _, outcome in told)


def test_asking_ahead_proposes_no_reference_and_a_local_cluster_stays_on_this_machine(
    workbench, tmp_path
):
    space = workbench.space
    architecture = replace(
        space.architectures[0],
        knobs=space.architectures[0].knobs_of(WeightBitsKnob)[:2],
    )
    small = Space(architectures=(architecture,))
    goals = (Goal(metric="accuracy", direction="maximize"),)
    proposer = Proposer(small, goals, make_sampler("random", 0, 8), None, lambda c: None)
    first = [
        Job(candidate=small.decode(dict.fromkeys(small.dimensions(), i)), rung=Rung(rows=32))
        for i in (0, 1)
    ]
    told = []

    def tell(job, outcome):
        told.append(job.candidate.key)
        metrics = {"accuracy": outcome.score.metric}
        candidate = job.candidate
        return Evaluation(
            number=len(told), key=candidate.key, candidate=candidate, metrics=metrics
        )

    coordinator = Coordinator(
        proposer=proposer, first=first, evaluations=12, batch=4, rung=Rung(rows=32), tell=tell
    )
    evaluator = replace(workbench.evaluator, loss=Placed(workbench.evaluator.loss, str(tmp_path)))
    carry_out(coordinator, evaluator, workbench.config.search)
    assert len(told) == len(set(told)) == 12
    assert told[:2] == [job.candidate.key for job in first]
    assert [path.name for path in tmp_path.iterdir()] == ["127.0.0.1"]


def test_workers_are_kept_while_they_end_together_and_proposing_takes_its_time(
    workbench, tmp_path
):
    class Slow(Proposer):
        def ask(self):
            time.sleep(0.2)
            return super().ask()

    goals = (Goal(metric="accuracy", direction="maximize"),)
    proposer = Slow(workbench.space, goals, make_sampler("random", 0, 8), None, lambda c: None)

    def tell(job, outcome):
        candidate = job.candidate
        metrics = {"accuracy": outcome.score.metric}
        return Evaluation(number=0, key=candidate.key, candidate=candidate, metrics=metrics)

    section = workbench.config.search
    coordinator = Coordinator(
        proposer=proposer, first=[], evaluations=20, batch=4, rung=Rung(rows=32), tell=tell
    )
    evaluator = replace(
        workbench.evaluator, loss=Numbered(workbench.evaluator.loss, str(tmp_path))
    )
    carry_out(coordinator, evaluator, section)
    assert coordinator.told == 20
    assert len(list(tmp_path.iterdir())) == section.workers


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
        carry_out(coordinator, evaluator, section)
    finally:
        cluster.shutdown()
    assert [job for job, _ in told] == jobs
    for job, outcome in told:
        assert outcome.failure is None
        assert outcome.score.metric == local_scores[job.name].metric
    assert len(list(tmp_path.iterdir())) == 2
