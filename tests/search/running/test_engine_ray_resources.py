"""Resources on real Ray: fractions of a GPU are shared, and what no node has is refused."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from paredown.search.config.schema import SearchSection
from paredown.search.proposing.coordinator import Coordinator, Job
from paredown.search.running import whole_search as running
from paredown.search.running.engine_ray import RayEngine, ray_cluster
from paredown.search.running.ray_resources import ClusterError
from paredown.search.study.evaluation import Evaluation, Score
from paredown.search.study.rung import Rung
from paredown.spaces.candidates.candidate import Candidate

pytestmark = pytest.mark.cluster

CONFIG = """\
task: {name: digits}
goals: [{metric: accuracy}, {metric: onnx_bytes}]
search: {workers: 2}
"""


@dataclass(frozen=True)
class Meeting:
    """An evaluator that leaves a file of its worker's name and waits until two workers have."""

    folder: str

    def evaluate(self, candidate, rung):
        import ray

        worker = ray.get_runtime_context()
        (gpu,) = ray.get_gpu_ids()
        share = worker.get_assigned_resources()["GPU"]
        folder = Path(self.folder)
        (folder / f"{worker.get_actor_id()} has {share} of GPU {gpu}").touch()
        deadline = time.monotonic() + 180
        while len(list(folder.iterdir())) < 2:
            if time.monotonic() > deadline:
                raise TimeoutError("only one worker works")
            time.sleep(0.05)
        return Score(metric=0.5, loss=1.0, images=1)


@dataclass(frozen=True)
class Alone:
    """An evaluator that fails where another one is at work."""

    folder: str

    def evaluate(self, candidate, rung):
        mark = Path(self.folder) / "at work"
        mark.touch(exist_ok=False)
        time.sleep(0.3)
        mark.unlink()
        return Score(metric=0.5, loss=1.0, images=1)


@pytest.fixture(scope="module", autouse=True)
def _sent_by_value():
    """Workers cannot import this file, so its classes travel with the evaluator."""
    from ray import cloudpickle

    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture(scope="module")
def address():
    """A cluster of one node with one GPU, which it only believes to have."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 1})
    yield cluster.address
    cluster.shutdown()


def carry_out(coordinator, evaluator, section):
    with ray_cluster(section):
        RayEngine(evaluator, section).run(coordinator)


def coordinate(count):
    told = []

    def tell(job, outcome):
        told.append(outcome)
        return Evaluation(number=len(told), key=job.candidate.key, candidate=job.candidate)

    jobs = [Job(candidate=Candidate.of(widths={"group": n})) for n in range(1, count + 1)]
    coordinator = Coordinator(
        proposer=None, first=jobs, evaluations=count, batch=1, rung=Rung(), tell=tell
    )
    return coordinator, told


def test_two_workers_share_a_gpu_at_the_same_time(address, tmp_path):
    coordinator, told = coordinate(4)
    section = SearchSection(ray_address=address, workers=2, gpus_per_worker=0.5)
    carry_out(coordinator, Meeting(str(tmp_path)), section)
    assert [outcome.failure for outcome in told] == [None] * 4
    signed = [path.name.split(" has ")[1] for path in tmp_path.iterdir()]
    assert signed == ["0.5 of GPU 0"] * 2


@pytest.mark.parametrize(("key", "most"), [("gpus_per_worker", 1), ("cpus_per_worker", 2)])
def test_more_than_the_cluster_has_is_refused_and_nothing_is_carried_out(
    address, tmp_path, key, most
):
    section = SearchSection(ray_address=address, **{key: most + 0.5})
    coordinator, told = coordinate(1)
    with pytest.raises(ClusterError, match=rf"search\.{key} must be at most the {most} "):
        carry_out(coordinator, Meeting(str(tmp_path)), section)
    assert told == []


def test_a_search_that_asks_for_too_much_is_refused_before_its_model_is_read(
    address, tmp_path, monkeypatch
):
    def loaded(*_):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(running, "survey", loaded)
    path = tmp_path / "digits.yaml"
    path.write_text(CONFIG)
    asked = [f"output.folder={tmp_path}", f"search.ray_address={address}"]
    with pytest.raises(ClusterError, match="got 2; set it to 0"):
        running.run(path, overrides=[*asked, "search.gpus_per_worker=2"])
    with pytest.raises(AssertionError, match="the model was loaded"):
        running.run(path, overrides=[*asked, "search.gpus_per_worker=0.5"])


def test_half_a_cpu_for_one_worker_leaves_it_one_worker(tmp_path):
    coordinator, told = coordinate(4)
    carry_out(coordinator, Alone(str(tmp_path)), SearchSection(workers=1, cpus_per_worker=0.5))
    assert [outcome.failure for outcome in told] == [None] * 4
