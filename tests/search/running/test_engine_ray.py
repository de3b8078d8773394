"""The same jobs on real Ray workers: same scores, same order, and a death that stops nothing.

All on one cluster of our own, as the rungs of a search are.
"""

import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from paredown.search.calibrating import uniform
from paredown.search.config import SearchSection
from paredown.search.proposing.coordinator import Coordinator, Job
from paredown.search.proposing.proposer import Proposer
from paredown.search.proposing.sampler import OptunaSampler
from paredown.search.proposing.samplers import BUILT_IN
from paredown.search.running.engine_ray import RayEngine, ray_cluster
from paredown.search.running.ray_resources import ClusterError
from paredown.search.running.ray_trials import MOST_LOST
from paredown.search.study import Evaluation, FailureKind, Rung, Score
from paredown.spaces.knobs import Space, WeightBitsKnob

pytestmark = pytest.mark.cluster

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
class Fatal:
    """An evaluator that ends its process on every candidate."""

    def prepare_process(self, threads):
        """Nothing to set."""

    def evaluate(self, candidate, rung):
        os._exit(1)


@dataclass(frozen=True)
class Placed:
    """An evaluator that leaves the address of its Ray node."""

    folder: str

    def prepare_process(self, threads):
        """Nothing to set."""

    def evaluate(self, candidate, rung):
        import ray

        (Path(self.folder) / ray.util.get_node_ip_address()).touch()
        return Score(metric=0.5, loss=1.0, images=1)


@dataclass(frozen=True)
class Numbered:
    """An evaluator that leaves the number of its process, then waits for a second one."""

    folder: str

    def prepare_process(self, threads):
        """Nothing to set."""

    def evaluate(self, candidate, rung):
        folder = Path(self.folder)
        (folder / str(os.getpid())).touch()
        deadline = time.monotonic() + 180
        while len(list(folder.iterdir())) < 2:
            if time.monotonic() > deadline:
                raise TimeoutError("only one worker works")
            time.sleep(0.05)
        time.sleep(0.3)
        return Score(metric=0.5, loss=1.0, images=1)


@pytest.fixture(scope="module")
def section(sent_by_value):
    """The section of a config whose cluster runs meanwhile."""
    sent_by_value(sys.modules[__name__])
    section = SearchSection(engine="ray", workers=2)
    with ray_cluster(section):
        yield section


def drawing(space):
    """Draws at random from the space."""
    return OptunaSampler(space, {"accuracy": "maximize"}, BUILT_IN["random"].make(0, 8))


def record_into(keys):
    """What a coordinator records evaluations with; their candidates' keys come into the list."""

    def record(job, outcome):
        keys.append(job.candidate.key)
        metrics = {"accuracy": outcome.score.metric}
        return Evaluation(
            number=len(keys), key=keys[-1], candidate=job.candidate, rung=job.rung, metrics=metrics
        )

    return record


def test_workers_score_as_this_process_does_and_a_death_is_one_failure(
    section, workbench, jobs, local_scores, coordinate
):
    dying = Job(candidate=uniform(workbench.space, "", 5), rung=Rung(rows=FATAL_ROWS))
    asked = [*jobs[:2], dying, *jobs[2:]]
    coordinator, recorded = coordinate(asked)
    evaluator = replace(workbench.evaluator, loss=Deadly(workbench.evaluator.loss))
    RayEngine(evaluator, section).run(coordinator)
    assert [job for job, _ in recorded] == asked
    outcomes = {job.name: outcome for job, outcome in recorded}
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


def test_workers_that_end_one_after_the_other_end_the_search_with_the_reason(
    section, workbench, coordinate
):
    asked = [
        Job(candidate=uniform(workbench.space, "", b), rung=Rung(rows=96)) for b in range(2, 9)
    ]
    coordinator, recorded = coordinate(asked)
    with pytest.raises(ClusterError, match="in a row") as raised:
        RayEngine(Fatal(), section).run(coordinator)
    assert "actor" in str(raised.value).lower()
    assert MOST_LOST <= len(recorded) < len(asked)
    assert {outcome.failure.kind for _, outcome in recorded} == {FailureKind.WORKER_LOST}


def test_asking_ahead_proposes_no_reference_and_a_local_cluster_stays_on_this_machine(
    section, workbench, tmp_path
):
    space = workbench.space
    architecture = replace(
        space.architectures[0],
        knobs=space.architectures[0].knobs_of(WeightBitsKnob)[:2],
    )
    small = Space(architectures=(architecture,))
    proposer = Proposer(small, (drawing(small),), lambda c: None)
    first = [
        Job(candidate=small.decode(dict.fromkeys(small.dimensions(), i)), rung=Rung(rows=32))
        for i in (0, 1)
    ]
    keys = []
    coordinator = Coordinator(
        proposer=proposer,
        first=first,
        evaluations=12,
        batch=4,
        rung=Rung(rows=32),
        tell=record_into(keys),
    )
    RayEngine(Placed(str(tmp_path)), section).run(coordinator)
    assert len(keys) == len(set(keys)) == 12
    assert keys[:2] == [job.candidate.key for job in first]
    assert [path.name for path in tmp_path.iterdir()] == ["127.0.0.1"]


def test_workers_are_kept_while_they_end_together_and_proposing_takes_its_time(
    section, workbench, tmp_path
):
    class Slow(Proposer):
        def ask(self):
            time.sleep(0.2)
            return super().ask()

    proposer = Slow(workbench.space, (drawing(workbench.space),), lambda c: None)
    keys = []
    coordinator = Coordinator(
        proposer=proposer,
        first=[],
        evaluations=20,
        batch=4,
        rung=Rung(rows=32),
        tell=record_into(keys),
    )
    RayEngine(Numbered(str(tmp_path)), section).run(coordinator)
    assert len(keys) == 20
    assert len(list(tmp_path.iterdir())) == section.workers
