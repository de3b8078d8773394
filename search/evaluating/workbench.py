"""The workbench of one search: everything read, measured and collected before it starts."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from paredown.compressors.layers.database import Database
from paredown.compressors.onnx.sizes import file_sizes
from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.storage.shelf import Shelf
from paredown.compressors.storage.stored import CPU
from paredown.compressors.training.kept import TrainedModels
from paredown.hardware_models.devices.device import Device
from paredown.hardware_models.latency.elsewhere import latencies_elsewhere
from paredown.hardware_models.latency.models import RooflineLatency
from paredown.hardware_models.pricing.costs import CostModels
from paredown.hardware_models.timing.measure import MeasureError
from paredown.hardware_models.work.workload import read_work
from paredown.search.calibrating.latency_source import kept_latency_model
from paredown.search.config.schema import Config
from paredown.search.evaluating.holding import check_files
from paredown.search.evaluating.recovery import Recovering, Recovery
from paredown.search.evaluating.scoring import Evaluator, score
from paredown.search.evaluating.surveying import Surveyed, survey, survey_part
from paredown.search.evaluating.training_rows import channels_last
from paredown.search.space.found_ranks import FoundRanks
from paredown.search.study.evaluation import UNCOMPRESSED, Evaluation, Score
from paredown.search.study.rung import Rung
from paredown.search.tasks.cache import cache_folder
from paredown.search.tasks.collecting import RESTORED_ROWS
from paredown.search.tasks.splits import Split
from paredown.search.tasks.task import Task
from paredown.spaces.candidates.blueprint import Blueprint
from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.candidates.drafting import draft
from paredown.spaces.capture.capturing import as_inputs
from paredown.spaces.knobs.space import Space
from paredown.spaces.structure.model_map import ModelMap

_log = logging.getLogger(__name__)

SOLUTION_BYTES = 4 * 2**30
"""Compressed layers kept on disk, over all models and runs."""


@dataclass(frozen=True, kw_only=True)
class Workbench:
    """A surveyed model with its statistics, cost models and goals in absolute numbers."""

    config: Config
    task: Task
    space: Space
    device: Device
    evaluator: Evaluator
    cost_models: CostModels
    ranks: FoundRanks
    also: tuple[Device, ...] = ()

    @property
    def caveats(self) -> tuple[str, ...]:
        """What every report must say of presets whose seconds it gives."""
        presets = self.also
        if isinstance(self.cost_models.latency_model, RooflineLatency):
            presets = (self.device, *presets)
        return tuple(device.caveat for device in presets if device.caveat)

    @property
    def databases(self) -> Mapping[str, Database]:
        """Databases of compressed layers by architecture name."""
        return self.evaluator.databases

    def uncompressed(self) -> Candidate:
        """The identity candidate of the reference architecture."""
        return Candidate(architecture=self.space.architectures[0].name)

    def blueprint(self, candidate: Candidate) -> Blueprint:
        """The candidate's blueprint, drafted from the model map of its architecture."""
        return draft(self.space.model_map(candidate), candidate)

    def price(
        self, candidate: Candidate, names: Collection[str] | None = None
    ) -> dict[str, float]:
        """Costs by name, without building the model: all, or these `names`.

        Raises:
            MeasureError: Latency is measured, and the runtime refuses the candidate's ONNX file.
        """
        return self.cost_models.price(self.blueprint(candidate), names)

    def costs(self, candidate: Candidate, names: Collection[str]) -> dict[str, float] | None:
        """Costs of these `names`; None, and the reason in the log, where it has no price."""
        try:
            return self.price(candidate, names)
        except MeasureError as error:
            _log.warning("candidate %s has no price: %s", candidate.key, error)
            return None

    def assemble(self, candidate: Candidate) -> CompressedModel:
        """The compressed model on the CPU, exactly as it is scored where it is not trained."""
        return self.evaluator.assemble(candidate).to(CPU)

    def model_of(self, evaluation: Evaluation, kept: TrainedModels) -> CompressedModel:
        """The very model that was scored: assembled again, or as it was kept after its training.

        Raises:
            TrainingError: It was trained, and `kept` does not hold it.
        """
        model = self.assemble(evaluation.candidate)
        return model if evaluation.trained is None else kept.get(evaluation.trained, model)

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """What candidates climb: all are scored on the first, fewer and fewer on those after it.

        One alone where that is the whole search split and nothing is trained.
        """
        whole = len(self.task.splits.search)
        first = Rung(rows=min(self.config.search.rung_images, whole))
        recovering = self.evaluator.recovery
        if recovering is not None:
            recipes = recovering.recovery.recipes
            return first, *(Rung(number=i, recipe=each) for i, each in enumerate(recipes, 1))
        return (first,) if first.rows == whole else (first, Rung(number=1))

    @property
    def is_trained(self) -> bool:
        """Whether leading candidates are trained before they are scored for the front."""
        return self.evaluator.recovery is not None

    def kept_of(self, count: int, rung: Rung) -> int:
        """How many of `count` candidates of the rung before climb to `rung`, references apart."""
        recovering = self.evaluator.recovery
        if recovering is None or not rung.recipe.is_trained:
            return max(1, round(self.config.search.promote_fraction * count))
        kept: int = recovering.recovery.rungs[rung.number - 1].keep
        return kept

    def recovering(self, recovery: Recovery, kept: TrainedModels) -> Workbench:
        """The workbench with rungs whose candidates are trained; results go to `kept`."""
        step = Recovering(
            recovery=recovery,
            open_train=self.task.splits.open_train,
            loss=self.task.loss,
            class_dim=self.task.class_dim,
            kept=kept,
        )
        return replace(self, evaluator=replace(self.evaluator, recovery=step))

    def evaluate_uncompressed(self, rung: Rung) -> Evaluation:
        """The uncompressed model scored on a rung, without training."""
        rung = rung.untrained
        started = time.perf_counter()
        candidate = self.uncompressed()
        score = self.evaluator.evaluate(candidate, rung)
        metrics = self.price(candidate)
        return Evaluation(
            number=0,
            key=candidate.key,
            candidate=candidate,
            kind="reference",
            label=UNCOMPRESSED,
            rung=rung,
            metrics=metrics | {self.task.metric.name: score.metric, "loss": score.loss},
            duration_s=time.perf_counter() - started,
            spent=score.spent,
        )

    def score(self, model: CompressedModel, split: Split, rows: int | None = None) -> Score:
        """Task metric and mean loss of a model on the first `rows` rows of `split`, or all."""
        model = model.to(self.evaluator.device)
        return score(model, split, self.task.metric, self.task.loss, rows)


def prepare(
    config: Config,
    latency_file: Path | None = None,
    ranks_file: Path | None = None,
) -> Workbench:
    """The workbench of a config: survey, calibration statistics, latency model.

    Args:
        latency_file: Where the fitted latency model is kept: read when it exists, so that costs stay
            frozen over a run and its resumption, written otherwise.
        ranks_file: The ranks that a run was begun with, see `survey`; only read.

    Raises:
        LatencyError: `latency_file` holds no latency model, or that of another device or kind.
        RankFileError: `ranks_file` holds something else.
        ExportError: A network cannot be written to ONNX, or the file gives something else.
    """
    return equip(survey(config, ranks_file), latency_file)


def equip(surveyed: Surveyed, latency_file: Path | None = None) -> Workbench:
    """The workbench of a surveyed config, as `prepare`."""
    check_files(surveyed.captured, surveyed.space, surveyed.task.splits.search)
    return _equip(surveyed, tuple(surveyed.captured), latency_file)


def prepare_part(config: Config, latency_file: Path, architectures: Collection[str]) -> Workbench:
    """The workbench to export candidates of these architectures with, and to do nothing else.

    Args:
        latency_file: What `prepare` wrote. Without it, where latencies are timed, all is prepared.
    """
    if config.hardware.latency != "roofline" and not latency_file.is_file():
        return prepare(config, latency_file)
    return _equip(survey_part(config, architectures), architectures, latency_file)


def _equip(
    surveyed: Surveyed, architectures: Collection[str], latency_file: Path | None
) -> Workbench:
    config, task, space = surveyed.config, surveyed.task, surveyed.space
    databases = {name: _database(surveyed, name) for name in architectures}
    first = space.architectures[0]
    evaluator = Evaluator(
        databases=databases,
        split=task.splits.search,
        metric=task.metric,
        loss=task.loss,
        calibration=_calibration_inputs(task, first.model_map),
    )
    reference = read_work(draft(first.model_map, Candidate(architecture=first.name)))
    return Workbench(
        config=config,
        task=task,
        space=space,
        device=surveyed.device,
        also=surveyed.also,
        ranks=surveyed.ranks,
        evaluator=evaluator,
        cost_models=CostModels(
            device=surveyed.device,
            latency_model=kept_latency_model(
                config.hardware.latency,
                surveyed.device,
                config.hardware.threads,
                space,
                latency_file,
            ),
            reference=reference,
            further=file_sizes() | latencies_elsewhere(surveyed.also, config.hardware.threads),
        ),
    )


def _calibration_inputs(task: Task, model_map: ModelMap) -> list[Tensor]:
    split = task.splits.calibration
    rows = min(RESTORED_ROWS, len(split))
    return [channels_last(x) for x in as_inputs(model_map.graph, split.rows(0, rows)[0])]


def _database(surveyed: Surveyed, architecture: str) -> Database:
    calibration = surveyed.collected.of(architecture)
    return Database(
        surveyed.space.by_name[architecture].model_map,
        surveyed.captured[architecture].tensors,
        calibration.statistics,
        calibration.ranges,
        shelf=Shelf(cache_folder() / "solutions", SOLUTION_BYTES),
        device=surveyed.computes_on,
    )
