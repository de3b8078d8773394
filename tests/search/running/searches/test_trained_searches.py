"""Searches that train: from the rung to the verified bundle, without room, interrupted, and resumed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from paredown.compressors.bundle.loading import load_model
from paredown.compressors.training.kept import KeepingError, TrainedModels
from paredown.compressors.training.trainer import Trained
from paredown.search.config.reading import load_config
from paredown.search.evaluating.recovery import TrainingRung
from paredown.search.proposing.jobs import Outcome
from paredown.search.running.engines import trial
from paredown.search.running.watching import Silent
from paredown.search.running.whole_search import run
from paredown.search.study.evaluation import Failure, FailureKind
from paredown.search.study.run_record import read_run

CONFIG = """\
name: trained
task: {name: digits}
space:
  rules: [{layers: "*", weight_bits: [1, 8], method: [rtn]}, {groups: "*", width: [1.0, 0.5]}]
goals: [{metric: accuracy}, {metric: onnx_bytes}]
hardware: {latency: roofline}
search: {engine: local, sampler: random, evaluations: 8, rung_images: 60, promote_fraction: 0.5}
"""


def test_a_trained_front_is_journalled_exported_and_verified(tmp_path, rescaling):
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    config = load_config(path, [f"output.folder={tmp_path}"])
    result = run(config, recovery=rescaling)
    by_rung = [[e for e in result.evaluations if e.rung.number == n] for n in (1, 2)]
    for evaluations, recipe in zip(by_rung, rescaling.recipes, strict=True):
        trained = [e for e in evaluations if e.trained is not None]
        assert trained
        assert all(e.rung.recipe == recipe for e in trained)
    # References, and what lost nothing, are scored beside them, once, and not trained.
    beside = [e for each in by_rung for e in each if e.trained is None]
    assert sum(e.kind == "reference" for e in beside) == 3
    assert len(beside) == len({e.key for e in beside})
    assert all(e.rung == by_rung[0][0].rung.untrained for e in beside)
    assert all(e.rung.recipe.is_trained for e in result.front.members)
    assert [check.mismatches for check in result.bundles] == [()] * len(result.front.members)
    record = read_run(result.folder)
    assert record.evaluations == result.evaluations
    assert record.front == result.front
    kept = TrainedModels(result.folder / "trained")
    members = [m for m in result.front.members if m.trained is not None]
    assert members
    for member in members:
        written = load_model(result.folder / "bundles" / member.key)
        assert kept.put(written) == member.trained, "the bundle holds the very tensors"


def test_without_room_for_what_training_keeps_the_search_ends_and_is_resumed(tmp_path, rescaling):
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    whole = run(load_config(path, [f"output.folder={tmp_path / 'whole'}"]), recovery=rescaling)
    config = load_config(path, [f"output.folder={tmp_path}"])
    trained = tmp_path / "trained" / "trained"
    trained.parent.mkdir()
    trained.write_text("in the way")
    with pytest.raises(KeepingError, match="--resume"):
        run(config, recovery=rescaling)
    known = read_run(trained.parent).evaluations
    assert not any(e.rung.recipe.steps for e in known)
    assert not any(e.is_failed for e in known)
    trained.unlink()
    resumed = run(config, resume=True, recovery=rescaling)
    assert [(e.key, e.trained, e.metrics) for e in resumed.front.members] == [
        (e.key, e.trained, e.metrics) for e in whole.front.members
    ]


def test_states_of_the_last_rung_and_of_the_front_are_left_and_every_model(tmp_path, rescaling):
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    kept = TrainedModels(tmp_path / "trained" / "trained")
    kept.checkpoint("of a training that failed").save({"step": torch.tensor(1)})
    rungs = (TrainingRung(3, 4), TrainingRung(2, 1))
    result = run(
        load_config(path, [f"output.folder={tmp_path}"]), recovery=replace(rescaling, rungs=rungs)
    )
    trained = {e.trained: e for e in result.evaluations if e.trained}
    going_on = {e.trained for e in trained.values() if e.rung.number == 2}
    going_on |= {e.trained for e in result.front.members if e.trained}
    assert 0 < len(going_on) < len(trained)
    names = {f"{key}.safetensors" for key in trained} | {
        f"{key}-state.safetensors" for key in going_on
    }
    assert {path.name for path in kept.folder.iterdir()} == names


@dataclass(frozen=True)
class Interrupted:
    """A trainer that is interrupted once, on the rung of so many steps, and then goes on from there."""

    folder: str
    steps: int
    name: str = "interrupted 1"

    def check(self, graph):
        """Trains any network."""

    def __call__(self, model, data, budget, seed, state=None, checkpoint=None) -> Trained:
        if budget.steps == self.steps:
            saved, mark = checkpoint.load(), Path(self.folder) / "was interrupted"
            if not mark.exists():
                mark.touch()
                checkpoint.save({"step": torch.tensor(1)})
                raise KeepingError("no room")
            assert saved is not None, "a resumed search must not remove what it goes on from"
        return Trained(model=model, state={"step": torch.tensor(budget.steps)})


def test_what_a_training_on_the_last_rung_saved_is_there_when_the_search_is_resumed(
    tmp_path, rescaling
):
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    config = load_config(path, [f"output.folder={tmp_path}"])
    own = replace(rescaling, trainer=Interrupted(str(tmp_path), rescaling.rungs[1].steps))
    with pytest.raises(KeepingError, match="no room"):
        run(config, recovery=own)
    result = run(config, resume=True, recovery=own)
    assert any(e.rung.number == 2 and e.trained for e in result.evaluations)
    assert not any(e.is_failed for e in result.evaluations)
    assert not list((result.folder / "trained").glob("*-under-way*"))


class Noting(Silent):
    """Keeps what is to be known."""

    def __init__(self):
        self.notices = []

    def notice(self, text):
        """Keeps it."""
        self.notices.append(text)


def test_a_training_whose_worker_is_lost_is_asked_again_and_the_user_hears_of_it(
    tmp_path, rescaling, monkeypatch, unwritten
):
    carry_out, lost = trial.carry_out, []

    def _losing(evaluator, job):
        if not job.rung.recipe.steps or lost:
            return carry_out(evaluator, job)
        lost.append(job.candidate.key)
        failure = Failure(kind=FailureKind.WORKER_LOST, sentence="its machine is gone")
        return Outcome(score=None, failure=failure, duration_s=0.0)

    monkeypatch.setattr(trial, "carry_out", _losing)
    path, watch = tmp_path / "config.yaml", Noting()
    path.write_text(CONFIG)
    config = load_config(path, [f"output.folder={tmp_path}"])
    result = run(config, recovery=rescaling, watch=watch)
    (key,) = lost
    assert [note for note in watch.notices if f"that trained {key}: its machine is gone" in note]
    assert not any(e.is_failed for e in result.evaluations)
    assert any(e.trained for e in result.evaluations if e.key == key)
