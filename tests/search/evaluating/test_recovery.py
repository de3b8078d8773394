"""Candidates trained before they are scored, from the rung to the verified bundle, with a toy trainer."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest
import torch

from paredown.compressors.bundle.loading import load_model
from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.training.kept import KeepingError, TrainedModels, digest_of
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
from paredown.search.running import working
from paredown.search.running.engines.trial import carry_out
from paredown.search.running.whole_search import run
from paredown.search.study.evaluation import Evaluation
from paredown.search.study.run_record import read_run
from paredown.search.study.rung import Recipe, Rung
from paredown.spaces.candidates.candidate import Candidate, LayerChoice
from paredown.spaces.capture.capturing import capture

CONFIG = """\
name: trained
task: {name: digits}
space:
  rules: [{layers: "*", weight_bits: [1, 8], method: [rtn]}, {groups: "*", width: [1.0, 0.5]}]
goals: [{metric: accuracy}, {metric: onnx_bytes}]
hardware: {latency: roofline}
search: {engine: local, sampler: random, evaluations: 8, rung_images: 60, promote_fraction: 0.5}
"""


@dataclass(frozen=True)
class Rescale:
    """Scales all codes of the model by one factor, the best of nine on the batches of its budget."""

    name: str = "rescale 1"

    def __call__(self, model, data, budget, seed, state=None, checkpoint=None) -> Trained:
        batches = [
            b for b, _ in zip(data.batches(budget.rows, seed), range(budget.steps), strict=False)
        ]

        def loss(scaled: CompressedModel) -> float:
            with torch.no_grad():
                return sum(float(data.loss(scaled(b.inputs), b.targets)) for b in batches)

        # 1 is left out, so that the trained model always differs from the assembled one.
        factors = [0.9, 0.98, 0.999, 1.001, 1.02, 1.1]
        # The factor so far, so that a later rung shows what it went on from.
        before = 1.0 if state is None else float(state["factor"])
        factor = min(factors, key=lambda f: loss(rescaled(model, f)))
        found = {"factor": torch.tensor(before * factor)}
        return Trained(model=rescaled(model, factor), state=found)


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


RECOVERY = Recovery(
    trainer=Rescale(), rungs=(TrainingRung(3, 2), TrainingRung(2, 1)), batch_rows=50, seed=5
)


@pytest.fixture
def four_bits(workbench: Workbench) -> Candidate:
    layers = workbench.space.model_map(Candidate()).layers
    return Candidate.of(layers={x.name: LayerChoice(weight_bits=4) for x in layers})


def test_a_rung_that_trains_scores_what_the_trainer_made(workbench, four_bits, tmp_path):
    kept = TrainedModels(tmp_path)
    trains = workbench.recovering(RECOVERY, kept)
    first, last, _ = trains.rungs
    assert (first.recipe, last.recipe) == (Recipe(), RECOVERY.recipes[0])
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


def test_a_later_rung_goes_on_from_the_one_before(workbench, four_bits, tmp_path):
    kept = TrainedModels(tmp_path)
    trains = workbench.recovering(RECOVERY, kept)
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


def test_the_uncompressed_model_is_never_trained(workbench, tmp_path):
    trains = workbench.recovering(RECOVERY, TrainedModels(tmp_path))
    evaluation = trains.evaluate_uncompressed(trains.rungs[-1])
    assert evaluation.rung == trains.rungs[-1].untrained
    assert evaluation.rung.compares_with(trains.rungs[1])
    assert evaluation.trained is None
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_that_the_search_does_not_have_is_refused(workbench, four_bits, tmp_path):
    trains = workbench.recovering(RECOVERY, TrainedModels(tmp_path))
    other = replace(RECOVERY.recipes[0], steps=4)
    for evaluator in (workbench.evaluator, trains.evaluator):
        with pytest.raises(RecipeError, match="trained by rescale 1 for 4 steps"):
            evaluator.evaluate(four_bits, Rung(number=1, recipe=other))


def test_a_trained_front_is_journalled_exported_and_verified(tmp_path, monkeypatch):
    monkeypatch.setattr(working, "local_engine", InThisProcess)
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    config = load_config(path, [f"output.folder={tmp_path}"])
    result = run(config, recovery=RECOVERY)
    by_rung = [[e for e in result.evaluations if e.rung.number == n] for n in (1, 2)]
    for evaluations, recipe in zip(by_rung, RECOVERY.recipes, strict=True):
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


def test_without_room_for_what_training_keeps_the_search_ends_and_is_resumed(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(working, "local_engine", InThisProcess)
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    whole = run(load_config(path, [f"output.folder={tmp_path / 'whole'}"]), recovery=RECOVERY)
    config = load_config(path, [f"output.folder={tmp_path}"])
    trained = tmp_path / "trained" / "trained"
    trained.parent.mkdir()
    trained.write_text("in the way")
    with pytest.raises(KeepingError, match="--resume"):
        run(config, recovery=RECOVERY)
    known = read_run(trained.parent).evaluations
    assert not any(e.rung.recipe.steps for e in known)
    assert not any(e.is_failed for e in known)
    trained.unlink()
    resumed = run(config, resume=True, recovery=RECOVERY)
    assert [(e.key, e.trained, e.metrics) for e in resumed.front.members] == [
        (e.key, e.trained, e.metrics) for e in whole.front.members
    ]


def test_states_of_the_last_rung_and_of_the_front_are_left_and_every_model(tmp_path, monkeypatch):
    monkeypatch.setattr(working, "local_engine", InThisProcess)
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    kept = TrainedModels(tmp_path / "trained" / "trained")
    kept.checkpoint("of a training that failed").save({"step": torch.tensor(1)})
    rungs = (TrainingRung(3, 4), TrainingRung(2, 1))
    result = run(
        load_config(path, [f"output.folder={tmp_path}"]), recovery=replace(RECOVERY, rungs=rungs)
    )
    trained = {e.trained: e for e in result.evaluations if e.trained}
    going_on = {e.trained for e in trained.values() if e.rung.number == 2}
    going_on |= {e.trained for e in result.front.members if e.trained}
    assert 0 < len(going_on) < len(trained)
    names = {f"{key}.safetensors" for key in trained} | {
        f"{key}-state.safetensors" for key in going_on
    }
    assert {path.name for path in kept.folder.iterdir()} == names


def test_a_state_that_the_front_or_another_rung_goes_on_from_stays(workbench, tmp_path):
    kept = TrainedModels(tmp_path)
    trains = workbench.recovering(RECOVERY, kept)
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

    def __call__(self, model, data, budget, seed, state=None, checkpoint=None) -> Trained:
        point = CurvePoint(
            step=torch.get_num_threads(), loss=0.0, held_out_loss=checkpoint.every_s
        )
        return Trained(model=model, curve=(point,))


@pytest.mark.parametrize(("threads", "found"), [(None, 1), (2, 2)])
def test_training_has_its_own_threads_and_interval_of_saving(
    workbench, four_bits, tmp_path, threads, found
):
    own = replace(RECOVERY, trainer=Telling(), threads=threads, checkpoint_s=0.25)
    trains = workbench.recovering(own, TrainedModels(tmp_path))
    trains.evaluator.prepare_process(1)
    score = trains.evaluator.evaluate(four_bits, trains.rungs[1])
    assert score.curve == ((found, 0.0, 0.25),)
    assert torch.get_num_threads() == 1


@dataclass(frozen=True)
class Interrupted:
    """A trainer that is interrupted once on the second rung, and then goes on from what it saved."""

    folder: str
    name: str = "interrupted 1"

    def __call__(self, model, data, budget, seed, state=None, checkpoint=None) -> Trained:
        if budget.steps == RECOVERY.rungs[1].steps:
            saved, mark = checkpoint.load(), Path(self.folder) / "was interrupted"
            if not mark.exists():
                mark.touch()
                checkpoint.save({"step": torch.tensor(1)})
                raise KeepingError("no room")
            assert saved is not None, "a resumed search must not remove what it goes on from"
        return Trained(model=model, state={"step": torch.tensor(budget.steps)})


def test_what_a_training_on_the_last_rung_saved_is_there_when_the_search_is_resumed(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(working, "local_engine", InThisProcess)
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    config = load_config(path, [f"output.folder={tmp_path}"])
    own = replace(RECOVERY, trainer=Interrupted(str(tmp_path)))
    with pytest.raises(KeepingError, match="no room"):
        run(config, recovery=own)
    result = run(config, resume=True, recovery=own)
    assert any(e.rung.number == 2 and e.trained for e in result.evaluations)
    assert not any(e.is_failed for e in result.evaluations)
    assert not list((result.folder / "trained").glob("*-under-way*"))
