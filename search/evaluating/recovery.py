"""Recovery: candidates trained between assembling and scoring, on the training split of the task."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.training.kept import TrainedModels
from paredown.compressors.training.trainer import Batch, Budget, Trainer, trained
from paredown.search.study.rung import Recipe
from paredown.search.tasks.metrics import Loss, Outputs
from paredown.search.tasks.splits import Split, Targets
from paredown.spaces.capture.capturing import as_inputs
from paredown.spaces.graph.graph import Graph


@dataclass(frozen=True, kw_only=True)
class TrainingRows:
    """A split as trainers take it: the inputs in the order of `graph`, and the loss of the task."""

    split: Split
    graph: Graph
    task_loss: Loss

    def batches(self, rows: int, seed: int) -> Iterator[Batch]:
        """Every row once, `rows` at a time, in an order drawn with `seed`; the last may be smaller."""
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self.split), generator=generator)
        for index in order.split(rows):
            inputs, targets = self.split.take(index).rows(0, len(index))
            yield Batch(inputs=tuple(as_inputs(self.graph, inputs)), targets=targets)

    def loss(self, outputs: Outputs, targets: Targets) -> Tensor:
        """The mean loss over a batch, shape (), with a gradient by the outputs."""
        return self.task_loss(outputs, targets)


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """How the leading candidates of a search are trained before they are scored for its front.

    Each is trained from its assembled tensors with the same budget and seed.
    """

    trainer: Trainer
    budget: Budget
    seed: int = 0

    @property
    def recipe(self) -> Recipe:
        """What evaluations say of it."""
        return Recipe(
            trainer=self.trainer.name,
            steps=self.budget.steps,
            batch_rows=self.budget.rows,
            seed=self.seed,
        )


@dataclass(frozen=True, kw_only=True)
class Recovering:
    """A recovery with all that a worker needs for it: the rows, the loss, and where results are kept."""

    recovery: Recovery
    open_train: Callable[[], Split]
    loss: Loss
    kept: TrainedModels

    @functools.cached_property
    def _split(self) -> Split:
        return self.open_train()

    def train(self, model: CompressedModel) -> tuple[CompressedModel, str]:
        """The trained model and the digest under which it is kept.

        Raises:
            TrainingError: The trainer returned something else than the model with other values.
        """
        recovery = self.recovery
        data = TrainingRows(
            split=self._split.on(model.device), graph=model.blueprint.graph, task_loss=self.loss
        )
        found = trained(recovery.trainer, model, data, recovery.budget, recovery.seed)
        return found, self.kept.put(found)
