"""A model of a finished run trained further, and exported as a bundle of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from paredown.compressors.training.kept import TrainedModels
from paredown.compressors.training.trainer import TrainingError
from paredown.search.bundles.exporting import export, is_written
from paredown.search.config.reading import card_config
from paredown.search.config.schema import Config
from paredown.search.config.schema_recovery import (
    RecipeSection,
    RecoverySection,
    TrainingRungSection,
)
from paredown.search.evaluating.recovery import recovery_of
from paredown.search.evaluating.workbench import Workbench, prepare_part
from paredown.search.study.evaluation import UNCOMPRESSED, Evaluation
from paredown.search.study.run_record import LATENCY, TRAINED, RunRecord


@dataclass(frozen=True)
class Recovered:
    """A trained model: its bundle, and its quality and loss on the search split before and after."""

    bundle: Path
    before: Evaluation
    after: Evaluation


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
    if evaluation.label == UNCOMPRESSED:
        raise TrainingError(
            "a model must be compressed to be trained towards the uncompressed one, got that itself; "
            "pick another"
        )
    recipe = config.recovery.recipe if config.recovery is not None else RecipeSection()
    section = RecoverySection(recipe=recipe, rungs=(TrainingRungSection(steps=steps, keep=1),))
    kept = TrainedModels(record.folder / TRAINED)
    workbench = _workbench(record, evaluation, config, out)
    trains = workbench.recovering(recovery_of(config, section), kept)
    rung = trains.rungs[-1]
    trains.evaluator.prepare_process(config.search.threads_per_worker)
    base = workbench.evaluate_uncompressed(rung)
    before = workbench.score(workbench.model_of(evaluation, kept), workbench.task.splits.search)
    score = trains.evaluator.evaluate(evaluation.candidate, rung, evaluation.trained or "")
    prices = workbench.price(evaluation.candidate)

    def _evaluation(metric: float, loss: float, trained: str | None) -> Evaluation:
        metrics = {workbench.task.metric.name: metric, "loss": loss}
        return Evaluation(
            number=evaluation.number,
            key=evaluation.key,
            candidate=evaluation.candidate,
            kind=evaluation.kind,
            label=evaluation.label,
            rung=rung,
            metrics=prices | metrics,
            trained=trained,
            curve=score.curve if trained else (),
        )

    after = _evaluation(score.metric, score.loss, score.trained)
    bundle = export(workbench, after, out, base, kept)
    start = _evaluation(before.metric, before.loss, None)
    return Recovered(bundle=bundle, before=start, after=after)


def _workbench(record: RunRecord, evaluation: Evaluation, config: Config, out: Path) -> Workbench:
    """All that is needed for the model and for the uncompressed one."""
    base = record.uncompressed
    needed = {evaluation.candidate.architecture}
    if base is None or not is_written(out / base.key, card_config(config)):
        needed.add(next(iter(config.space.architectures), ""))
    return prepare_part(config, record.folder / LATENCY, needed)
