"""A training whose worker is killed goes on with another one; a few times, then it has failed."""

import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from paredown.compressors.training.kept import TrainedModels
from paredown.compressors.training.trainer import CurvePoint, Trained
from paredown.search.calibrating import uniform
from paredown.search.evaluating.recovery import Recovery, TrainingRung
from paredown.search.proposing.coordinator import MOST_TRIES
from paredown.search.proposing.jobs import Job

STEPS = 2
"""That a trainer saves before it is killed."""


@dataclass(frozen=True)
class Mortal:
    """A trainer that is killed in each of its first trainings, just after it has saved some steps."""

    folder: str
    deaths: int
    name: str = "mortal 1"

    def check(self, graph):
        """Trains any network."""

    def __call__(self, model, data, budget, seed, state=None, checkpoint=None):
        step = int((checkpoint.load() or {"step": torch.tensor(0)})["step"])
        (Path(self.folder) / f"{os.getpid()} from {step}").touch()
        if len(list(Path(self.folder).iterdir())) <= self.deaths:
            checkpoint.save({"step": torch.tensor(step + STEPS)})
            os.kill(os.getpid(), signal.SIGKILL)
        point = CurvePoint(step=step, loss=0.0, held_out_loss=0.0)
        return Trained(model=model, curve=(point,))


@pytest.fixture
def train(contract, workbench, coordinate, tmp_path):
    """(deaths) -> outcomes of a training and of a candidate after it; processes and their first steps."""

    def _train(deaths):
        folder = tmp_path / "signed"
        folder.mkdir()
        recovery = Recovery(trainer=Mortal(str(folder), deaths), rungs=(TrainingRung(9, 1),))
        trains = workbench.recovering(recovery, TrainedModels(tmp_path / "trained"))
        jobs = [
            Job(candidate=uniform(trains.space, "", bits), rung=rung)
            for bits, rung in ((4, trains.rungs[-1]), (8, replace(trains.rungs[0], rows=32)))
        ]
        coordinator, recorded = coordinate(jobs)
        losses = []
        coordinator.again = lambda job, failure: losses.append((job, failure.kind))
        with contract.open(trains.evaluator, 1) as engine:
            engine.run(coordinator)
        assert [job for job, _ in recorded] == jobs
        assert losses == [(jobs[0], contract.lost)] * min(deaths, MOST_TRIES - 1)
        signed = [path.name.split(" from ") for path in folder.iterdir()]
        return [outcome for _, outcome in recorded], *zip(*signed, strict=True)

    return _train


def test_a_training_goes_on_with_another_worker_from_where_it_was_saved(train):
    (trained, scored), processes, steps = train(deaths=2)
    assert trained.failure is None
    assert trained.score.curve == ((2 * STEPS, 0.0, 0.0),)
    assert scored.failure is None
    assert len(set(processes)) == 3
    assert sorted(map(int, steps)) == [0, STEPS, 2 * STEPS]


def test_a_training_that_kills_each_worker_fails_and_the_search_goes_on(train, contract):
    (trained, scored), processes, _ = train(deaths=100)
    assert trained.score is None
    assert trained.failure.kind is contract.lost
    assert len(processes) == MOST_TRIES
    assert scored.failure is None
