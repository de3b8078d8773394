"""On a cluster that was there before: nodes share the work, a GPU is shared, and too much is refused."""

import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from paredown.compressors.training import kept
from paredown.compressors.training.kept import TrainedModels, digest_of
from paredown.compressors.training.trainer import CurvePoint, Trained
from paredown.search.calibrating import uniform
from paredown.search.config import SearchSection
from paredown.search.evaluating import Recovery, TrainingRung
from paredown.search.proposing.jobs import Job
from paredown.search.running import whole_search as running
from paredown.search.running.engines.engine_ray import RayEngine, check_cluster, ray_cluster
from paredown.search.running.engines.ray_resources import ClusterError
from paredown.search.study import Score
from paredown.spaces.candidates import Candidate

pytestmark = pytest.mark.cluster

CONFIG = """\
task: {name: digits}
goals: [{metric: accuracy}, {metric: onnx_bytes}]
search: {workers: 2}
"""


def sign_and_meet(folder, name):
    """Leaves a file of this name and waits until there are two."""
    (Path(folder) / name).touch()
    deadline = time.monotonic() + 180
    while len(list(Path(folder).iterdir())) < 2:
        if time.monotonic() > deadline:
            raise TimeoutError("only one works")
        time.sleep(0.05)


@dataclass(frozen=True)
class Signing:
    """A loss that signs with its Ray node's name and waits until two nodes have signed."""

    inner: object
    folder: str

    def __call__(self, outputs, targets):
        import ray

        sign_and_meet(self.folder, ray.get_runtime_context().get_node_id())
        return self.inner(outputs, targets)


@dataclass(frozen=True)
class Meeting:
    """An evaluator that signs with its worker's name and share of a GPU, and waits for a second one."""

    folder: str
    recovery: None = None

    def prepare_process(self, threads):
        """Nothing to set."""

    def solve(self, candidate, wait):
        """Nothing to solve."""

    def evaluate(self, candidate, rung, begins=""):
        import ray

        worker = ray.get_runtime_context()
        (gpu,) = ray.get_gpu_ids()
        share = worker.get_assigned_resources()["GPU"]
        sign_and_meet(self.folder, f"{worker.get_actor_id()} has {share} of GPU {gpu}")
        return Score(metric=0.5, loss=1.0, images=1)


@dataclass(frozen=True)
class Alone:
    """An evaluator that fails where another one is at work."""

    folder: str
    recovery: None = None

    def prepare_process(self, threads):
        """Nothing to set."""

    def solve(self, candidate, wait):
        """Nothing to solve."""

    def evaluate(self, candidate, rung, begins=""):
        mark = Path(self.folder) / "at work"
        mark.touch(exist_ok=False)
        time.sleep(0.3)
        mark.unlink()
        return Score(metric=0.5, loss=1.0, images=1)


@dataclass(frozen=True)
class Walled:
    """A trainer, and afterwards a worker, whose machine has no disk: it trains a step at a time."""

    name: str = "walled 1"

    def check(self, graph):
        """Trains any network."""

    def __call__(self, model, data, budget, seed, state=None, checkpoint=None) -> Trained:
        def refused(*_):
            raise AssertionError("this machine's disk is of no use")

        kept.write_record = kept.read_record = refused
        done = int((state or checkpoint.load() or {"steps": torch.tensor(0)})["steps"])
        checkpoint.save({"steps": torch.tensor(done + budget.steps)})
        steps = checkpoint.load()["steps"]
        point = CurvePoint(step=int(steps), loss=0.0, held_out_loss=0.0)
        return Trained(model=model, state={"steps": steps}, curve=(point,))


@dataclass(frozen=True)
class Stranded:
    """A trainer that saves a step, leaves the name of its node, and waits for ever: the first time."""

    folder: str
    name: str = "stranded 1"

    def check(self, graph):
        """Trains any network."""

    def __call__(self, model, data, budget, seed, state=None, checkpoint=None) -> Trained:
        import ray

        (Path(self.folder) / ray.get_runtime_context().get_node_id()).touch()
        saved = checkpoint.load()
        if saved is None:
            checkpoint.save({"steps": torch.tensor(7)})
            (Path(self.folder) / "saved").touch()
            time.sleep(600)
        point = CurvePoint(step=int(saved["steps"]), loss=0.0, held_out_loss=0.0)
        return Trained(model=model, curve=(point,))


@pytest.fixture(scope="module")
def address(sent_by_value):
    """A cluster of two nodes with a CPU each, one of which only believes to have a GPU."""
    from ray.cluster_utils import Cluster

    sent_by_value(sys.modules[__name__])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        yield cluster.address
    finally:
        cluster.shutdown()


def carry_out(coordinator, evaluator, section):
    with ray_cluster(section):
        RayEngine(evaluator, section).run(coordinator)


def numbered(count):
    return [Job(candidate=Candidate.of(widths={"group": n})) for n in range(1, count + 1)]


def test_two_nodes_share_the_work(address, workbench, jobs, local_scores, coordinate, tmp_path):
    coordinator, recorded = coordinate(jobs)
    evaluator = replace(workbench.evaluator, loss=Signing(workbench.evaluator.loss, str(tmp_path)))
    carry_out(coordinator, evaluator, SearchSection(ray_address=address, workers=2))
    assert [job for job, _ in recorded] == jobs
    for job, outcome in recorded:
        assert outcome.failure is None
        assert outcome.score.metric == local_scores[job.name].metric
    assert len(list(tmp_path.iterdir())) == 2


def test_what_workers_train_is_kept_where_the_search_was_started(
    address, workbench, coordinate, tmp_path
):
    recovery = Recovery(trainer=Walled(), rungs=(TrainingRung(2, 1), TrainingRung(3, 1)))
    models = TrainedModels(tmp_path / "trained")
    trains = workbench.recovering(recovery, models)
    candidate, section = uniform(trains.space, "", 4), SearchSection(ray_address=address)
    begins, steps = "", []
    for rung in trains.rungs[1:]:
        coordinator, recorded = coordinate([Job(candidate=candidate, rung=rung, begins=begins)])
        carry_out(coordinator, trains.evaluator, section)
        ((_, outcome),) = recorded
        assert outcome.failure is None
        begins = outcome.score.trained
        steps.append(outcome.score.curve[-1][0])
    assert steps == [2, 5], "the second goes on from the first"
    assert digest_of(models.get(begins, trains.assemble(candidate))) == begins
    names = {f"{begins}.safetensors", f"{begins}-state.safetensors"}
    assert {path.name for path in models.folder.iterdir()} == names


def test_a_training_whose_node_is_lost_goes_on_elsewhere(
    workbench, coordinate, tmp_path, sent_by_value
):
    from ray.cluster_utils import Cluster

    sent_by_value(sys.modules[__name__])
    signed = tmp_path / "signed"
    signed.mkdir()
    recovery = Recovery(trainer=Stranded(str(signed)), rungs=(TrainingRung(9, 1),))
    trains = workbench.recovering(recovery, TrainedModels(tmp_path / "trained"))
    job = Job(candidate=uniform(trains.space, "", 4), rung=trains.rungs[-1])
    coordinator, recorded = coordinate([job])
    head = {"num_cpus": 0, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        nodes = {node.node_id: node for node in (cluster.add_node(num_cpus=1) for _ in range(2))}

        def _lose() -> None:
            while not (signed / "saved").exists():
                time.sleep(0.05)
            (name,) = {path.name for path in signed.iterdir()} & nodes.keys()
            cluster.remove_node(nodes[name], allow_graceful=False)

        losing = threading.Thread(target=_lose, daemon=True)
        losing.start()
        carry_out(coordinator, trains.evaluator, SearchSection(ray_address=cluster.address))
        losing.join()
    finally:
        cluster.shutdown()
    ((_, outcome),) = recorded
    assert outcome.failure is None
    assert outcome.score.curve == ((7, 0.0, 0.0),)
    assert nodes.keys() < {path.name for path in signed.iterdir()}


def test_a_search_that_trains_is_refused_from_outside_its_cluster():
    section = SearchSection(ray_address="ray://head:10001")
    with pytest.raises(ClusterError, match="must be started on a node of its cluster"):
        check_cluster(section, is_trained=True)


def test_two_workers_share_a_gpu_at_the_same_time(address, coordinate, tmp_path):
    coordinator, recorded = coordinate(numbered(4))
    section = SearchSection(
        ray_address=address, workers=2, cpus_per_worker=0.5, gpus_per_worker=0.5
    )
    carry_out(coordinator, Meeting(str(tmp_path)), section)
    assert [outcome.failure for _, outcome in recorded] == [None] * 4
    signed = [path.name.split(" has ")[1] for path in tmp_path.iterdir()]
    assert signed == ["0.5 of GPU 0"] * 2


def test_workers_on_cuda_share_the_gpu_without_being_asked(
    address, coordinate, tmp_path, monkeypatch
):
    """Nothing is computed there: the driver only believes to see a GPU, as its cluster does."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    coordinator, recorded = coordinate(numbered(4))
    section = SearchSection(ray_address=address, workers=2, cpus_per_worker=0.5, device="cuda")
    carry_out(coordinator, Meeting(str(tmp_path)), section)
    assert [outcome.failure for _, outcome in recorded] == [None] * 4
    signed = [path.name.split(" has ")[1] for path in tmp_path.iterdir()]
    assert signed == ["0.5 of GPU 0"] * 2


@pytest.mark.parametrize("key", ["gpus_per_worker", "cpus_per_worker"])
def test_more_than_a_node_has_is_refused_and_nothing_is_carried_out(
    address, coordinate, tmp_path, key
):
    section = SearchSection(ray_address=address, **{key: 2})
    coordinator, recorded = coordinate(numbered(1))
    with pytest.raises(ClusterError, match=rf"search\.{key} must be at most the 1 "):
        carry_out(coordinator, Meeting(str(tmp_path)), section)
    assert recorded == []


def test_a_search_that_asks_for_too_much_is_refused_before_its_model_is_read(
    address, tmp_path, monkeypatch
):
    def loaded(*_):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(running, "survey", loaded)
    path = tmp_path / "digits.yaml"
    path.write_text(CONFIG)
    asked = [f"output.folder={tmp_path}", f"search.ray_address={address}"]
    with pytest.raises(ClusterError, match="got 2; lower it"):
        running.run(path, overrides=[*asked, "search.gpus_per_worker=2"])
    with pytest.raises(AssertionError, match="the model was loaded"):
        running.run(path, overrides=[*asked, "search.gpus_per_worker=0.5"])


def test_half_a_cpu_for_one_worker_leaves_it_one_worker(coordinate, tmp_path, sent_by_value):
    """On a cluster of its own, which has as many CPUs as its workers need."""
    sent_by_value(sys.modules[__name__])
    coordinator, recorded = coordinate(numbered(4))
    carry_out(coordinator, Alone(str(tmp_path)), SearchSection(workers=1, cpus_per_worker=0.5))
    assert [outcome.failure for _, outcome in recorded] == [None] * 4
