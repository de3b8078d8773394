"""Candidates trained before they are scored, from the rung to the verified bundle, with a toy trainer."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

from paredown.compressors.bundle.loading import load_model
from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.training.kept import TrainedModels
from paredown.compressors.training.trainer import Budget, TrainingData
from paredown.search.config.reading import load_config
from paredown.search.evaluating.recovery import Recovery, TrainingRows
from paredown.search.evaluating.scoring import RecipeError
from paredown.search.evaluating.workbench import Workbench
from paredown.search.running import searching
from paredown.search.running.trial import carry_out
from paredown.search.running.whole_search import run
from paredown.search.study.run_record import read_run
from paredown.search.study.rung import Recipe, Rung
from paredown.spaces.candidates.candidate import Candidate, LayerChoice

CONFIG = """\
name: trained
task: {name: digits}
space:
  rules: [{layers: "*", weight_bits: [4, 8], method: [rtn]}]
goals: [{metric: accuracy}, {metric: onnx_bytes}]
hardware: {latency: roofline}
search: {engine: local, sampler: random, evaluations: 4, rung_images: 60, promote_fraction: 0.5}
"""


@dataclass(frozen=True)
class Rescale:
    """Scales all codes of the model by one factor, the best of nine on the batches of its budget."""

    name: str = "rescale 1"

    def __call__(
        self, model: CompressedModel, data: TrainingData, budget: Budget, seed: int
    ) -> CompressedModel:
        batches = [
            b for b, _ in zip(data.batches(budget.rows, seed), range(budget.steps), strict=False)
        ]

        def loss(scaled: CompressedModel) -> float:
            with torch.no_grad():
                return sum(float(data.loss(scaled(b.inputs), b.targets)) for b in batches)

        # 1 is left out, so that the trained model always differs from the assembled one.
        factors = [0.9, 0.95, 0.98, 0.99, 1.01, 1.02, 1.05, 1.1]
        return min((rescaled(model, f) for f in factors), key=loss)


def rescaled(model: CompressedModel, factor: float) -> CompressedModel:
    stored = {
        name: each if each.scale is None else replace(each, scale=each.scale * factor)
        for name, each in model.stored.items()
    }
    return replace(model, stored=stored)


@dataclass
class InThisProcess:
    """The local engine without its processes."""

    evaluator: object
    section: object

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def run(self, coordinator):
        while not coordinator.is_done:
            if (job := coordinator.next()) is not None:
                coordinator.finish(job, carry_out(self.evaluator, job))


RECOVERY = Recovery(trainer=Rescale(), budget=Budget(steps=3, rows=50), seed=5)


@pytest.fixture
def four_bits(workbench: Workbench) -> Candidate:
    layers = workbench.space.model_map(Candidate()).layers
    return Candidate.of(layers={x.name: LayerChoice(weight_bits=4) for x in layers})


def test_training_rows_are_the_split_once_in_an_order_by_seed(workbench):
    split = workbench.task.splits.open_train().take(torch.arange(70))
    graph = workbench.databases[""].model_map.graph
    rows = TrainingRows(split=split, graph=graph, task_loss=workbench.task.loss)
    batches = list(rows.batches(32, seed=3))
    assert [len(b.targets) for b in batches] == [32, 32, 6]
    seen, wanted = torch.cat([b.inputs[0] for b in batches]), split.rows(0, 70)[0][0]
    assert not torch.equal(seen, wanted)
    assert torch.equal(seen.flatten(1).sum(1).sort()[0], wanted.flatten(1).sum(1).sort()[0])
    again, other = list(rows.batches(32, seed=3)), list(rows.batches(32, seed=4))
    assert torch.equal(batches[0].inputs[0], again[0].inputs[0])
    assert not torch.equal(batches[0].inputs[0], other[0].inputs[0])
    outputs = torch.zeros(6, 10, requires_grad=True)
    loss = rows.loss((outputs,), batches[2].targets)
    # Ten classes alike: the cross-entropy is ln 10.
    assert float(loss.detach()) == pytest.approx(2.302585, rel=1e-5)
    loss.backward()
    assert outputs.grad is not None


def test_a_rung_that_trains_scores_what_the_trainer_made(workbench, four_bits, tmp_path):
    kept = TrainedModels(tmp_path)
    trains = workbench.recovering(RECOVERY, kept)
    first, last = trains.rungs
    assert (first.recipe, last.recipe) == (Recipe(), RECOVERY.recipe)
    plain = trains.evaluator.evaluate(four_bits, replace(last, recipe=Recipe()))
    score = trains.evaluator.evaluate(four_bits, last)
    assert plain.trained is None
    assert score.trained is not None
    assert score.loss != plain.loss
    found = kept.get(score.trained, workbench.assemble(four_bits))
    assert workbench.score(found, workbench.task.splits.search).loss == score.loss


def test_the_uncompressed_model_is_never_trained(workbench, tmp_path):
    trains = workbench.recovering(RECOVERY, TrainedModels(tmp_path))
    evaluation = trains.evaluate_uncompressed(trains.rungs[-1])
    assert evaluation.rung.recipe == RECOVERY.recipe
    assert evaluation.trained is None
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_that_the_search_does_not_have_is_refused(workbench, four_bits, tmp_path):
    trains = workbench.recovering(RECOVERY, TrainedModels(tmp_path))
    other = replace(RECOVERY.recipe, steps=4)
    for evaluator in (workbench.evaluator, trains.evaluator):
        with pytest.raises(RecipeError, match="trained by rescale 1 for 4 steps"):
            evaluator.evaluate(four_bits, Rung(number=1, recipe=other))


def test_a_trained_front_is_journalled_exported_and_verified(tmp_path, monkeypatch):
    monkeypatch.setattr(searching, "local_engine", InThisProcess)
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    config = load_config(path, [f"output.folder={tmp_path}"])
    result = run(config, recovery=RECOVERY)
    trained = [e for e in result.evaluations if e.trained is not None]
    assert trained
    assert all(e.rung == Rung(number=1, recipe=RECOVERY.recipe) for e in trained)
    assert all(e.rung == result.front.rung for e in result.front.members)
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
