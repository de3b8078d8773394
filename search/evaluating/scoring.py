"""Scores candidates: assembles the compressed model and runs it over the search split."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from paredown.compressors.layers.database import Database
from paredown.compressors.models.assembling import assemble, needs_refit, settle, solve_layers
from paredown.compressors.models.refit import DenseOutputs
from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.training.trainer import Trained
from paredown.search.evaluating.computing_device import prepare_process
from paredown.search.evaluating.recovery import Recovering
from paredown.search.evaluating.training_rows import channels_last
from paredown.search.study.evaluation import Curve, Score, Spent
from paredown.search.study.rung import Rung
from paredown.search.tasks.metrics import Loss, Metric, Outputs
from paredown.search.tasks.splits import Inputs, Split
from paredown.search.tasks.user_metrics import LARGEST
from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.capture.capturing import as_inputs
from paredown.spaces.system.errors import ParedownError

_BATCH = 32
"""Rows of one forward pass: activations then stay in the cache (ResNet-20: 1.4 times faster than 250)."""


class NotFiniteError(ParedownError):
    """A model's score is no number."""


class RecipeError(ParedownError):
    """A rung asks for another recipe than the search has."""


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """All that a worker needs: the databases, the search split, the metric and the loss.

    `calibration` holds the inputs that the databases' statistics were collected on, in graph order. All
    that is given lies on the CPU; models are assembled, settled and run on the databases' device.
    `recovery` trains candidates on the rungs whose recipe says so; None where no rung does.
    """

    databases: Mapping[str, Database]
    split: Split
    metric: Metric
    loss: Loss
    calibration: list[Tensor]
    recovery: Recovering | None = None

    @property
    def device(self) -> torch.device:
        """Where the databases solve and models run."""
        return next(iter(self.databases.values())).device

    def prepare_process(self, threads: int) -> None:
        """Settings of this process for evaluating, with so many threads on the CPU."""
        prepare_process(self.device, threads)

    @functools.cached_property
    def _dense(self) -> Mapping[str, DenseOutputs]:
        return {
            name: DenseOutputs(database, [x.to(database.device) for x in self.calibration])
            for name, database in self.databases.items()
        }

    def assemble(self, candidate: Candidate) -> CompressedModel:
        """The compressed model, settled where it needs it: exactly what is scored and exported."""
        database = self.databases[candidate.architecture]
        model = assemble(candidate, database)
        if needs_refit(candidate):
            model = settle(model, candidate, database, self._dense[candidate.architecture])
        return model

    def solve(self, candidate: Candidate, *, wait: bool) -> None:
        """Solve what is missing of the candidate's layers, see `Database.solve`."""
        solve_layers(candidate, self.databases[candidate.architecture], wait=wait)

    def score(self, model: CompressedModel, rows: int | None = None) -> Score:
        """Metric and mean loss over the first `rows` rows of the search split.

        Raises:
            NotFiniteError: Metric or loss is no finite number.
        """
        return score(model, self.split, self.metric, self.loss, rows)

    def evaluate(self, candidate: Candidate, rung: Rung, begins: str = "") -> Score:
        """Score of a candidate on a rung; its tensors are kept where it was trained for it.

        References are yardsticks and never trained: their rung says 0 steps.

        Args:
            begins: The digest of the model that training goes on from; "" begins with the assembled one.

        Raises:
            NotFiniteError: As `score`.
            RecipeError: The rung's recipe is not that of `recovery`.
        """
        begun_s = time.perf_counter()
        model = self.assemble(candidate)
        solved_s = time.perf_counter()
        digest: str | None = None
        curve: Curve = ()
        training_s = 0.0
        if rung.recipe.steps:
            found, digest = self._trained(model, candidate, rung, begins)
            model = found.model
            curve = tuple((p.step, p.loss, p.held_out_loss) for p in found.curve)
            training_s = time.perf_counter() - solved_s
        score = self.score(model, rung.rows)
        scoring_s = time.perf_counter() - solved_s - training_s
        spent = Spent(solved_s - begun_s, training_s, scoring_s)
        return replace(score, trained=digest, curve=curve, spent=spent)

    def _trained(
        self, model: CompressedModel, candidate: Candidate, rung: Rung, begins: str
    ) -> tuple[Trained, str]:
        if self.recovery is None or rung.recipe not in self.recovery.recovery.recipes:
            raise RecipeError(
                f"a rung's recipe must be one that this search can carry out, got {rung.text}; give "
                "`run` the same recovery as the search began with"
            )
        reference = self.assemble(Candidate(architecture=candidate.architecture))
        return self.recovery.train(model, reference, rung.recipe, begins)


def score(
    model: CompressedModel, split: Split, metric: Metric, loss: Loss, rows: int | None = None
) -> Score:
    """Metric and mean loss of a model, which runs where it lies, over the first `rows` rows of a split.

    Raises:
        NotFiniteError: One of them is no finite number.
    """
    graph = model.blueprint.graph

    def _run(inputs: Inputs) -> Outputs:
        return model([channels_last(x) for x in as_inputs(graph, inputs)])

    return score_outputs(_run, split.on(model.device), metric, loss, rows)


def score_outputs(
    run: Callable[[Inputs], Outputs], split: Split, metric: Metric, loss: Loss, rows: int | None
) -> Score:
    """As `score`, of what `run` gives for the inputs of a batch."""
    count = len(split) if rows is None else min(rows, len(split))
    tally = metric.tally()
    total, done, broken = 0.0, 0, 0
    with torch.no_grad():
        for inputs, targets in split.batches(_BATCH, count):
            outputs = run(inputs)
            size = min(_BATCH, count - done)
            total += float(loss(outputs, targets)) * size
            tally.add(outputs, targets)
            done += size
            broken += any(bool(x.isnan().any()) for x in outputs)
    value = tally.value()
    if not (abs(total / count) <= LARGEST and abs(value) <= LARGEST):
        outputs_too = (
            f"; the outputs of {broken} batches of {_BATCH} rows hold NaN" if broken else ""
        )
        raise NotFiniteError(
            f"{metric.name} and loss must be finite numbers of size at most {LARGEST:g}, got "
            f"{value:g} and {total / count:g} on {count} rows{outputs_too or '; see to the targets'}"
        )
    return Score(metric=value, loss=total / count, images=count)
