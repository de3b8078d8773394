"""What every engine does with a coordinator's jobs: one suite, run on processes and on Ray's workers."""

import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from paredown.compressors.training.kept import KeepingError, TrainedModels
from paredown.compressors.training.trainer import CurvePoint, Trained
from paredown.search.calibrating import uniform
from paredown.search.evaluating.recovery import Recovery, TrainingRung
from paredown.search.proposing.coordinator import MOST_LOST, Coordinator
from paredown.search.proposing.jobs import GRACE_S, Job
from paredown.search.proposing.proposer import Proposer
from paredown.search.proposing.sampler import OptunaSampler
from paredown.search.proposing.samplers import OPTUNA
from paredown.search.study import Evaluation, FailureKind, Rung, Score
from paredown.spaces.knobs import Space, WeightBitsKnob

LIMIT_S = 4.0
DIES, EXITS, HANGS, FINDS_NO_ROOM = 1, 2, 3, 4


@dataclass(frozen=True)
class Deadly:
    """A loss that does what the number of rows names, as a metric or the out-of-memory killer would."""

    inner: object

    def __call__(self, outputs, targets):
        if len(targets) == DIES:
            os._exit(1)
        if len(targets) == EXITS:
            sys.exit(3)
        if len(targets) == HANGS:
            time.sleep(600)
        if len(targets) == FINDS_NO_ROOM:
            raise KeepingError("the disk is full")
        return self.inner(outputs, targets)


@dataclass(frozen=True)
class Signing:
    """An evaluator that leaves the number of its process, and waits until so many have."""

    folder: str
    awaited: int = 1
    inner: object = None

    def prepare_process(self, threads):
        """Nothing to set."""

    def solve(self, candidate, wait):
        """Nothing to solve."""

    def evaluate(self, candidate, rung, begins=""):
        folder = Path(self.folder)
        (folder / str(os.getpid())).touch()
        deadline = time.monotonic() + 180
        while len(list(folder.iterdir())) < self.awaited:
            if time.monotonic() > deadline:
                raise TimeoutError(f"fewer than {self.awaited} workers work")
            time.sleep(0.05)
        if self.inner is not None:
            return self.inner.evaluate(candidate, rung)
        return Score(metric=0.5, loss=1.0, images=1)


@dataclass(frozen=True)
class Telling:
    """A trainer that reports the threads it had as a step, and changes nothing."""

    name: str = "telling 1"

    def check(self, graph):
        """Trains any network."""

    def __call__(self, model, data, budget, seed, state=None, checkpoint=None):
        point = CurvePoint(step=torch.get_num_threads(), loss=0.0, held_out_loss=0.0)
        return Trained(model=model, curve=(point,))


@dataclass(frozen=True)
class Threads:
    """A loss that is the number of threads it is computed with."""

    def __call__(self, outputs, targets):
        return torch.tensor(float(torch.get_num_threads()))


@dataclass(frozen=True)
class Fatal:
    """An evaluator that ends its process on every candidate."""

    def prepare_process(self, threads):
        """Nothing to set."""

    def solve(self, candidate, wait):
        """Nothing to solve."""

    def evaluate(self, candidate, rung, begins=""):
        os._exit(1)


def _is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def _end_soon(workers):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and any(_is_alive(pid) for pid in workers):
        time.sleep(0.1)
    return not any(_is_alive(pid) for pid in workers)


def test_scores_are_those_of_this_process_in_asking_order_and_a_death_is_one_failure(
    contract, workbench, job, coordinate
):
    dying = job(5, DIES)
    asked = [job(8), job(6), dying, job(4), job(3)]
    coordinator, recorded = coordinate(asked)
    evaluator = replace(workbench.evaluator, loss=Deadly(workbench.evaluator.loss))
    with contract.open(evaluator, 2) as engine:
        engine.run(coordinator)
    assert [job for job, _ in recorded] == asked
    assert coordinator.is_done
    for each, outcome in recorded:
        if each == dying:
            assert outcome.score is None
            assert outcome.failure.kind is contract.lost
        else:
            here = workbench.evaluator.evaluate(each.candidate, each.rung)
            assert outcome.failure is None
            assert outcome.score.metric == here.metric
            assert outcome.score.loss == pytest.approx(here.loss, rel=1e-5)


def test_what_a_metric_raises_or_hangs_in_costs_no_worker(
    contract, workbench, job, coordinate, tmp_path
):
    asked = [job(8, EXITS), job(6, HANGS), job(4)]
    coordinator, recorded = coordinate(asked, lambda: LIMIT_S)
    deadly = replace(workbench.evaluator, loss=Deadly(workbench.evaluator.loss))
    with contract.open(Signing(str(tmp_path), inner=deadly), 1) as engine:
        engine.run(coordinator)
    exits, hangs, good = (outcome for _, outcome in recorded)
    assert (exits.failure.kind, exits.failure.sentence) == (FailureKind.RAISED, "SystemExit: 3")
    assert hangs.failure.kind is FailureKind.TIMED_OUT
    assert hangs.failure.sentence.startswith("an evaluation must take at most 4 s")
    assert "time.sleep(600)" in hangs.failure.where
    assert LIMIT_S <= hangs.duration_s < LIMIT_S + GRACE_S
    assert good.failure is None
    # A worker lost by it would be one more.
    assert len(list(tmp_path.iterdir())) <= 1 + contract.reserve


def test_what_finds_no_room_ends_the_search_and_is_no_failure(
    contract, workbench, job, coordinate
):
    asked = [job(8, FINDS_NO_ROOM), *(job(bits) for bits in range(2, 8))]
    coordinator, recorded = coordinate(asked)
    evaluator = replace(workbench.evaluator, loss=Deadly(workbench.evaluator.loss))
    with contract.open(evaluator, 1) as engine:
        engine.run(coordinator)
    assert coordinator.is_done
    assert coordinator.obstacle == "the disk is full"
    assert len(recorded) <= contract.reserve
    assert all(outcome.failure is None for _, outcome in recorded)


@pytest.mark.parametrize("own", [None, 3])
def test_scoring_and_training_have_the_threads_they_were_given(
    contract, workbench, coordinate, tmp_path, own
):
    recovery = Recovery(trainer=Telling(), rungs=(TrainingRung(1, 1),), threads=own)
    trains = workbench.recovering(recovery, TrainedModels(tmp_path))
    whole = uniform(workbench.space, "", 8)
    coordinator, recorded = coordinate([Job(candidate=whole, rung=r) for r in trains.rungs])
    with contract.open(replace(trains.evaluator, loss=Threads()), 1, threads=2) as engine:
        engine.run(coordinator)
    scored, trained = (outcome.score for _, outcome in recorded)
    assert (scored.loss, trained.loss) == (2.0, 2.0)
    assert trained.curve == ((own or 2, 0.0, 0.0),)


def test_workers_that_end_one_after_the_other_end_the_search_with_the_reason(
    contract, job, coordinate, monkeypatch
):
    asked = [job(bits) for bits in range(2, 9)]
    coordinator, _ = coordinate(asked)
    finished, finish = [], coordinator.finish

    def counted(job, outcome):
        # What is recorded may be one less: an outcome waits for those of jobs asked before it.
        finished.append(outcome)
        finish(job, outcome)

    monkeypatch.setattr(coordinator, "finish", counted)
    with (
        contract.open(Fatal(), 2) as engine,
        pytest.raises(contract.error, match=r"in a row (.*\n)*.*--resume"),
    ):
        engine.run(coordinator)
    assert MOST_LOST <= len(finished) < len(asked)
    assert {outcome.failure.kind for outcome in finished} == {contract.lost}


def test_proposals_are_new_and_workers_work_together_and_live_as_long_as_the_search(
    contract, workbench, tmp_path
):
    class Slow(Proposer):
        def ask(self):
            time.sleep(0.2)
            return super().ask()

    architecture = workbench.space.architectures[0]
    knobs = architecture.knobs_of(WeightBitsKnob)[:2]
    small = Space(architectures=(replace(architecture, knobs=knobs),))
    sampler = OptunaSampler(small, {"accuracy": "maximize"}, OPTUNA["random"](0, 8))
    first = [
        Job(candidate=small.decode(dict.fromkeys(small.dimensions(), i)), rung=Rung(rows=32))
        for i in (0, 1)
    ]
    keys = []

    def record(job, outcome):
        keys.append(job.candidate.key)
        metrics = {"accuracy": outcome.score.metric}
        return Evaluation(
            number=len(keys), key=keys[-1], candidate=job.candidate, rung=job.rung, metrics=metrics
        )

    coordinator = Coordinator(
        proposer=Slow(small, (sampler,), lambda c: None),
        first=first,
        evaluations=12,
        batch=4,
        rung=Rung(rows=32),
        tell=record,
    )
    with contract.open(Signing(str(tmp_path), awaited=2), 2) as engine:
        engine.run(coordinator)
    assert len(keys) == len(set(keys)) == 12
    assert keys[:2] == [job.candidate.key for job in first]
    workers = [int(path.name) for path in tmp_path.iterdir()]
    assert len(workers) == 2
    assert _end_soon(workers)
