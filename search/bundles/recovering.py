"""A model of a run, or of a bundle, trained further and exported as a bundle of its own."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from paredown.compressors.bundle.loading import BundleError, load_model
from paredown.compressors.bundle.writing import CANDIDATE_FILE
from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.storage.stored import CPU
from paredown.compressors.training.kept import TrainedModels, digest_of
from paredown.compressors.training.trainer import Trained, TrainingError, check_trained
from paredown.search.bundles.card import read_card
from paredown.search.bundles.exporting import export_model
from paredown.search.bundles.task import TaskSource, run_around
from paredown.search.config.reading import load_config
from paredown.search.config.schema import Config
from paredown.search.config.schema_recovery import (
    RecipeSection,
    RecoverySection,
    TrainingRungSection,
)
from paredown.search.evaluating.recovery import recovery_of
from paredown.search.evaluating.workbench import Workbench, prepare_part
from paredown.search.study.evaluation import UNCOMPRESSED, Evaluation
from paredown.search.study.run_record import CONFIG, LATENCY, TRAINED, RunRecord
from paredown.search.study.rung import Rung
from paredown.spaces.candidates.blueprint import Storage
from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.system.bounded import as_mapping, read_json


@dataclass(frozen=True)
class Recovered:
    """A trained model: its bundle, and its quality and loss on the search split before and after."""

    bundle: Path
    before: Evaluation
    after: Evaluation


@dataclass(frozen=True, kw_only=True)
class _Start:
    """A model to train, what is known of it, and all that it is trained, scored and exported with."""

    known: Evaluation
    model: CompressedModel
    workbench: Workbench

    def trained(self, steps: int, kept: TrainedModels) -> tuple[Trained, Rung]:
        """The model trained by the config's recipe, or its defaults, and the rung that stands for it."""
        if self.known.label == UNCOMPRESSED:
            raise TrainingError(
                "a model must be compressed to be trained towards the uncompressed one, got that itself; "
                "pick another"
            )
        config = self.workbench.config
        recipe = config.recovery.recipe if config.recovery is not None else RecipeSection()
        section = RecoverySection(recipe=recipe, rungs=(TrainingRungSection(steps=steps, keep=1),))
        workbench = self.workbench.recovering(recovery_of(config, section), kept)
        evaluator, rung = workbench.evaluator, workbench.rungs[-1]
        assert evaluator.recovery is not None
        evaluator.prepare_process(config.search.threads_per_worker)
        reference = evaluator.assemble(Candidate(architecture=self.known.candidate.architecture))
        model, begins = self.model.to(evaluator.device), self.known.trained or ""
        return evaluator.recovery.train(model, reference, rung.recipe, begins)[0], rung

    def exported(self, found: Trained, rung: Rung, out: Path) -> Recovered:
        """The bundle of what came of the model, with the scores of both on the search split."""
        curve = tuple((p.step, p.loss, p.held_out_loss) for p in found.curve)
        before = self._scored(self.model, rung)
        after = replace(
            self._scored(found.model, rung), trained=digest_of(found.model), curve=curve
        )
        base = self.workbench.evaluate_uncompressed(rung)
        model = found.model.to(CPU)
        bundle = export_model(self.workbench, model, after, out, base)
        return Recovered(bundle=bundle, before=before, after=after)

    def _scored(self, model: CompressedModel, rung: Rung) -> Evaluation:
        workbench, known = self.workbench, self.known
        score = workbench.score(model, workbench.task.splits.search)
        quality = {workbench.task.metric.name: score.metric, "loss": score.loss}
        metrics = workbench.price(known.candidate) | quality
        return replace(known, rung=rung, metrics=metrics, trained=None, curve=(), duration_s=0.0)


def recover(
    record: RunRecord, evaluation: Evaluation, config: Config, steps: int, out: Path
) -> Recovered:
    """Trains a model of a run for `steps` batches from where it is, and writes its bundle to `out`.

    The recipe is that of the config's `recovery`, or its defaults. The best state on held-out training
    rows is what is exported. The search split is scored before and after.

    Raises:
        TrainingError: The training failed, or the model is the uncompressed one.
        BundleError: A folder of the model's name below `out` holds something else.
    """
    kept = TrainedModels(record.folder / TRAINED)
    workbench = _workbench(config, record.folder, evaluation.candidate)
    model = workbench.model_of(evaluation, kept)
    start = _Start(known=evaluation, model=model, workbench=workbench)
    return start.exported(*start.trained(steps, kept), out)


def recover_bundle(bundle: Path, config: Config, steps: int, out: Path) -> Recovered:
    """As `recover`, of the model in a bundle's folder.

    A training that was interrupted goes on with the next call.

    Raises:
        TrainingError: As `recover`; or the bundle is of another network than the config's.
        BundleError: The folder holds no bundle, or the new one would replace it.
        VerificationError: It has no complete card.
    """
    start = _opened(bundle, config, out)
    kept = TrainedModels(out / f".{start.known.key}-under-way")
    recovered = start.exported(*start.trained(steps, kept), out)
    shutil.rmtree(kept.folder)  # the bundle holds it now
    return recovered


def write_back(bundle: Path, trained: CompressedModel, config: Config, out: Path) -> Recovered:
    """The bundle of a model that a loop of your own made of the one in `bundle`, written to `out`.

    Both are scored on the search split, and what it costs is predicted, for the card.

    Raises:
        TrainingError: It is not the bundle's model with other values, or that is of another network
            than the config's.
        BundleError, VerificationError: As `recover_bundle`.
    """
    start = _opened(bundle, config, out)
    check_trained("your loop", start.model, trained)
    return start.exported(Trained(model=trained), start.workbench.rungs[-1], out)


def config_of_bundle(bundle: Path, overrides: Sequence[str], *, trusts_cards: bool) -> Config:
    """The config of the run that the bundle lies in, else that on its card, which has no recipe.

    Raises:
        VerificationError: It has no complete card.
        NoTaskError: The card names code that nobody vouches for.
        ConfigError: The config, or a setting of `overrides`, does not fit.
    """
    card = read_card(bundle)
    run = run_around(bundle, card.config_yaml)
    if run is not None:
        return load_config(run / CONFIG, overrides)
    return TaskSource(trusts_cards=trusts_cards).card_config(bundle, card.config_yaml, overrides)


def place_beside(bundle: Path) -> Path:
    """Where the bundle of a bundle's trained model goes: RUN/recovered, or `recovered` beside it."""
    run = run_around(bundle, read_card(bundle).config_yaml)
    return (run or bundle.resolve().parent) / "recovered"


def _opened(bundle: Path, config: Config, out: Path) -> _Start:
    card, model = read_card(bundle), load_model(bundle)
    candidate = Candidate.from_json(as_mapping(read_json(bundle / CANDIDATE_FILE)))
    if (out / candidate.key).resolve() == bundle.resolve():
        raise BundleError(
            f"a trained model must not replace the bundle that it was made of, got {out / candidate.key} "
            "for it; choose another folder with --out"
        )
    run = run_around(bundle, card.config_yaml)
    has_network = candidate.architecture in (config.space.architectures or {""})
    workbench = _workbench(config, run or out, candidate) if has_network else None
    storage = {name: each.storage for name, each in model.stored.items()}
    if workbench is None or _storage(workbench, candidate) != storage:
        raise TrainingError(
            "a bundle must be of the network that the config names, got tensors that its choices do not "
            f"make of {config.task.name}; give the config of its run with --config"
        )
    known = Evaluation(number=0, key=candidate.key, candidate=candidate, label=card.label)
    return _Start(known=known, model=model, workbench=workbench)


def _storage(workbench: Workbench, candidate: Candidate) -> Mapping[str, Storage]:
    """What the choices make of the config's network; nothing where it does not have such layers."""
    model_map = workbench.space.by_name[candidate.architecture].model_map
    if not {name for name, _ in candidate.layers} <= model_map.layer_by_name.keys():
        return {}
    return workbench.blueprint(candidate).storage


def _workbench(config: Config, run: Path, candidate: Candidate) -> Workbench:
    """All that is needed for the candidate and for the uncompressed one."""
    needed = {candidate.architecture, next(iter(config.space.architectures), "")}
    return prepare_part(config, run / LATENCY, needed)
