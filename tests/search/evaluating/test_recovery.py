"""Candidates trained before they are scored, on the rung that says so, with a toy trainer."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import pytest
import torch

from paredown.compressors.training.kept import TrainedModels, digest_of
from paredown.compressors.training.trainable import View
from paredown.compressors.training.trainer import CurvePoint, Trained, TrainingError
from paredown.search.config.reading import load_config
from paredown.search.config.schema_recovery import RecipeSection
from paredown.search.evaluating.augmenting import flips_and_crops
from paredown.search.evaluating.recovery import (
    Recovery,
    TrainingRung,
    check_training,
    configured_recovery,
    recover,
    trainer_of,
)
from paredown.search.evaluating.scoring import RecipeError
from paredown.search.evaluating.workbench import Workbench
from paredown.search.study.evaluation import Evaluation
from paredown.search.study.rung import Recipe, Rung
from paredown.spaces.candidates.candidate import Candidate, LayerChoice
from paredown.spaces.capture.capturing import capture


@pytest.fixture
def four_bits(workbench: Workbench) -> Candidate:
    layers = workbench.space.model_map(Candidate()).layers
    return Candidate.of(layers={x.name: LayerChoice(weight_bits=4) for x in layers})


def test_a_rung_that_trains_scores_what_the_trainer_made(
    workbench, four_bits, tmp_path, rescaling
):
    kept = TrainedModels(tmp_path)
    trains = workbench.recovering(rescaling, kept)
    first, last, _ = trains.rungs
    assert (first.recipe, last.recipe) == (Recipe(), rescaling.recipes[0])
    plain = trains.evaluator.evaluate(four_bits, replace(last, recipe=Recipe()))
    score = trains.evaluator.evaluate(four_bits, last)
    assert plain.trained is None
    assert score.trained is not None
    assert score.loss != plain.loss
    assert min(asdict(score.spent).values()) > 0
    assert plain.spent.scoring_s > 0
    assert plain.spent.training_s < 0.01
    found = kept.get(score.trained, workbench.assemble(four_bits))
    assert workbench.score(found, workbench.task.splits.search).loss == score.loss


def test_a_later_rung_goes_on_from_the_one_before(workbench, four_bits, tmp_path, rescaling):
    kept = TrainedModels(tmp_path)
    trains = workbench.recovering(rescaling, kept)
    _, first, last = trains.rungs
    assert (first.recipe.steps, last.recipe.steps) == (3, 5)
    once = trains.evaluator.evaluate(four_bits, first).trained
    twice = trains.evaluator.evaluate(four_bits, last, once).trained
    alone = trains.evaluator.evaluate(four_bits, last).trained
    factor = {key: float(kept.state(key, "rescale 1")["factor"]) for key in (once, twice, alone)}
    name = next(n for n, t in workbench.assemble(four_bits).stored.items() if t.scale is not None)
    scales = {
        key: kept.get(key, workbench.assemble(four_bits)).stored[name].scale for key in factor
    }
    assert torch.allclose(scales[twice] / scales[once], torch.tensor(factor[twice] / factor[once]))
    assert torch.allclose(scales[alone] / scales[once], torch.tensor(factor[alone] / factor[once]))


def test_the_uncompressed_model_is_never_trained(workbench, tmp_path, rescaling):
    trains = workbench.recovering(rescaling, TrainedModels(tmp_path))
    evaluation = trains.evaluate_uncompressed(trains.rungs[-1])
    assert evaluation.rung == trains.rungs[-1].untrained
    assert evaluation.rung.compares_with(trains.rungs[1])
    assert evaluation.trained is None
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_that_the_search_does_not_have_is_refused(
    workbench, four_bits, tmp_path, rescaling
):
    trains = workbench.recovering(rescaling, TrainedModels(tmp_path))
    other = replace(rescaling.recipes[0], steps=4)
    for evaluator in (workbench.evaluator, trains.evaluator):
        with pytest.raises(RecipeError, match="trained by rescale 1 for 4 steps"):
            evaluator.evaluate(four_bits, Rung(number=1, recipe=other))


ASKED = """\
task: {name: digits}
goals: [{metric: accuracy}, {metric: onnx_bytes}]
search: {seed: 9}
"""
TRAINED_AS = """\
recovery:
  recipe:
    {quantizer: laq, activations: pact, lr: 0.01, clip_norm: 2, batch: 32, held_out_rows: 50, ema: 0.9,
     damping: 0.1, precision: bfloat16, augment: flips_and_crops, norms: live,
     loss: {logits: 0.5, labels: 1, temperature: 4}}
  rungs: [{steps: 10, keep: 4}, {steps: 30, keep: 2}]
  checkpoint_s: 0.5
  threads_per_worker: 3
"""


@pytest.fixture
def recovery_in(tmp_path):
    """(text of the config) -> its recovery."""

    def read(text):
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return configured_recovery(load_config(path))

    return read


def test_without_the_section_there_is_none(recovery_in):
    assert recovery_in(ASKED) is None


def test_every_setting_reaches_the_trainer(recovery_in):
    found = recovery_in(ASKED + TRAINED_AS)
    trainer = found.trainer
    view = trainer.view
    assert (view.quantizer, view.activations, view.norms) == ("laq", "pact", "live")
    assert (trainer.lr, trainer.clip_norm, trainer.ema, trainer.damping) == (0.01, 2, 0.9, 0.1)
    assert trainer.precision == "bfloat16"
    losses = trainer.losses
    assert (losses.logits, losses.labels, losses.temperature) == (0.5, 1, 4)
    assert (losses.blocks, losses.kernels) == (0, 0)
    assert found.rungs == (TrainingRung(10, 4), TrainingRung(30, 2))
    assert (found.batch_rows, found.held_out_rows, found.seed) == (32, 50, 9)
    assert found.augment is flips_and_crops
    assert (found.checkpoint_s, found.threads) == (0.5, 3)


@pytest.mark.parametrize(("able", "found"), [(True, "bfloat16"), (False, "float32")])
def test_auto_is_the_precision_that_the_processor_has(recovery_in, monkeypatch, able, found):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": able})
    text = ASKED + TRAINED_AS.replace("precision: bfloat16", "precision: auto")
    assert recovery_in(text).trainer.precision == found


def test_recipes_say_all_that_makes_scores_differ(recovery_in):
    one, other = (
        recovery_in(ASKED + TRAINED_AS),
        recovery_in(ASKED + TRAINED_AS.replace("augment: flips_and_crops,", "")),
    )
    assert [r.steps for r in one.recipes] == [10, 40]
    assert one.recipes[0] != other.recipes[0]
    assert "flips_and_crops" in one.recipes[0].trainer


def test_one_call_trains_a_model_as_a_rung_does(workbench, four_bits, tmp_path):
    recipe = RecipeSection(batch=50, held_out_rows=50)
    trainer = trainer_of(recipe, torch.device("cpu"))
    own = Recovery(trainer=trainer, rungs=(TrainingRung(4, 1),), batch_rows=50, held_out_rows=50)
    trains = workbench.recovering(own, TrainedModels(tmp_path))
    digest = trains.evaluator.evaluate(four_bits, trains.rungs[-1]).trained
    model = workbench.assemble(four_bits)
    found = recover(model, workbench.task, recipe, steps=4)
    assert digest_of(found.model) == digest
    assert found.curve[-1].step == 4


def test_live_norms_without_a_place_are_refused_before_anything_else(recovery_in, workbench):
    recovery = recovery_in(ASKED + TRAINED_AS.replace("flips_and_crops", "null"))
    split = workbench.task.splits.search
    single = capture(torch.nn.Linear(4, 2), torch.zeros(1, 4)).graph
    with pytest.raises(TrainingError, match=r"recovery\.recipe\.norms must be folded"):
        check_training(recovery, split, [single])
    folded = replace(recovery, trainer=replace(recovery.trainer, view=View()))
    check_training(folded, split, [single])


def test_a_state_that_the_front_or_another_rung_goes_on_from_stays(workbench, tmp_path, rescaling):
    kept = TrainedModels(tmp_path)
    trains = workbench.recovering(rescaling, kept)
    _, first, last = trains.rungs
    on_first = [evaluation_on(first, trained) for trained in ("same", "gone", "front", None)]
    on_last = [evaluation_on(last, trained) for trained in ("same", "last")]
    names = ("same", "gone", "front", "last")
    for key in names:
        kept.put_state(key, {"factor": torch.tensor(1.0)}, "t 1")
    checkpoint = kept.checkpoint("of the last rung")
    checkpoint.save({"step": torch.tensor(1)})
    recovering = trains.evaluator.recovery
    recovering.tidy(first, on_first, on_first)
    assert all(kept.state(key, "t 1") for key in names)
    assert checkpoint.load() is not None
    recovering.tidy(last, on_first + on_last, [on_first[2], on_last[1]])
    assert [key for key in names if kept.state(key, "t 1")] == ["same", "front", "last"]
    assert checkpoint.load() is None


def evaluation_on(rung, trained):
    return Evaluation(number=0, key="a", candidate=Candidate(), rung=rung, trained=trained)


@dataclass(frozen=True)
class Telling:
    """A trainer that reports the threads it had and how often it was to save, and changes nothing."""

    name: str = "telling 1"

    def check(self, graph):
        """Trains any network."""

    def __call__(self, model, data, budget, seed, state=None, checkpoint=None) -> Trained:
        point = CurvePoint(
            step=torch.get_num_threads(), loss=0.0, held_out_loss=checkpoint.every_s
        )
        return Trained(model=model, curve=(point,))


@pytest.mark.parametrize(("threads", "found"), [(None, 1), (2, 2)])
def test_training_has_its_own_threads_and_interval_of_saving(
    workbench, four_bits, tmp_path, threads, found, rescaling
):
    own = replace(rescaling, trainer=Telling(), threads=threads, checkpoint_s=0.25)
    trains = workbench.recovering(own, TrainedModels(tmp_path))
    trains.evaluator.prepare_process(1)
    score = trains.evaluator.evaluate(four_bits, trains.rungs[1])
    assert score.curve == ((found, 0.0, 0.25),)
    assert torch.get_num_threads() == 1
