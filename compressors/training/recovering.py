"""The trainer of paredown: any compressed model towards the answers of its uncompressed network.

A loop of ordinary PyTorch: AdamW with a cosine schedule, where every tensor's learning rate is a share of
the size of its own values, so that one rate fits weights, scales, biases and norms of any network. The
best state seen on held-out training rows is what comes back, the start among them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.training.losses import LossWeights, Objective
from paredown.compressors.training.progress import Best, Progress
from paredown.compressors.training.trainable import Trainable, View
from paredown.compressors.training.trainer import (
    Batch,
    Budget,
    Checkpoint,
    Trained,
    TrainingData,
    TrainingError,
)

_WARMUP = 0.05
"""Share of the steps in which the learning rate rises."""
_LOOKS = 8
"""How often held-out rows are scored on the way."""
_RANKINGS = 20
"""How often the supports of sparse tensors are chosen anew."""


@dataclass(frozen=True, kw_only=True)
class Recover:
    """Trains a compressed model as a recipe says.

    Args:
        view: What learns and how codes are found while it does.
        losses: What is minimised.
        lr: Learning rate at its height, as a share of the size of each tensor's values.
        clip_norm: Largest norm of the gradient of all parameters together; 0 clips nothing.
    """

    view: View = field(default_factory=View)
    losses: LossWeights = field(default_factory=LossWeights)
    lr: float = 2e-3
    clip_norm: float = 0.0

    @property
    def name(self) -> str:
        """The recipe and its version."""
        clipped = f", gradients clipped at {self.clip_norm:g}" if self.clip_norm else ""
        return (
            f"recovery 1 ({self.view.quantizer}, activations {self.view.activations}, "
            f"{self.losses.text}, lr {self.lr:g}{clipped})"
        )

    def __call__(
        self,
        model: CompressedModel,
        data: TrainingData,
        budget: Budget,
        seed: int,
        state: Mapping[str, Tensor] | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Trained:
        """The model of the least held-out loss among those seen, the start included.

        Raises:
            TrainingError: A loss is no finite number, or there are no rows to train on.
        """
        trainable = Trainable(model, self.view, data.reference.tensors)
        if state:
            trainable.load_state_dict(dict(state))
        return _Training(self, trainable, data, budget, seed, checkpoint).carry_out()


class _Training:
    """One training under way."""

    def __init__(
        self,
        recipe: Recover,
        trainable: Trainable,
        data: TrainingData,
        budget: Budget,
        seed: int,
        checkpoint: Checkpoint | None,
    ) -> None:
        self._recipe, self._trainable, self._data = recipe, trainable, data
        self._budget, self._seed, self._checkpoint = budget, seed, checkpoint
        graph = trainable.model.blueprint.graph
        self._objective = Objective(recipe.losses, data, graph)
        groups = [
            {"params": [each.parameter], "lr": recipe.lr * each.unit}
            for each in trainable.learned()
        ]
        self._optimizer = torch.optim.AdamW(groups, weight_decay=0.0, foreach=True)
        self._progress = Progress()
        self._best = Best(trainable)
        saved = checkpoint.load() if checkpoint else None
        if saved is not None:
            self._progress.restore(saved, trainable, self._optimizer, self._best)
        begun = self._progress.step
        self._schedule = LambdaLR(self._optimizer, lambda step: self._rate(begun + step))

    def carry_out(self) -> Trained:
        """Steps until the budget is spent."""
        if not self._progress.curve:
            self._look()
        saved_s = time.monotonic()
        for batch in self._batches():
            self._step(batch)
            step = self._progress.step
            if step % self._every(_LOOKS) == 0 or step == self._budget.steps:
                self._look()
            if self._checkpoint and time.monotonic() - saved_s > self._checkpoint.every_s:
                self._checkpoint.save(
                    self._progress.saved(self._trainable, self._optimizer, self._best)
                )
                saved_s = time.monotonic()
        self._trainable.load_state_dict(self._best.state)
        return Trained(
            model=self._trainable.freeze(),
            state=self._best.state,
            curve=tuple(self._progress.curve),
        )

    def _batches(self) -> Iterator[Batch]:
        """The batches that are left, epoch after epoch, each in an order of its own."""
        number, epoch = 0, 0
        while number < self._budget.steps:
            before = number
            for batch in self._data.batches(self._budget.rows, self._seed + epoch):
                if number >= self._progress.step:
                    yield batch
                number += 1
                if number == self._budget.steps:
                    return
            if number == before:
                raise TrainingError("training needs rows, got an empty training split; give some")
            epoch += 1

    def _step(self, batch: Batch) -> None:
        outputs, seen = self._trainable.run(batch.inputs, self._objective.watched)
        loss = self._objective(batch, outputs, seen)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"the training loss must be a finite number, got {value:g} after "
                f"{self._progress.step} steps; lower recovery.recipe.lr, or clip the gradients"
            )
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self._recipe.clip_norm:
            parameters = self._trainable.parameters()
            torch.nn.utils.clip_grad_norm_(parameters, self._recipe.clip_norm)
        self._optimizer.step()
        self._schedule.step()
        self._trainable.after_step()
        self._progress.add(value)
        if self._progress.step % self._every(_RANKINGS) == 0:
            self._trainable.rank(self._progress.step / self._budget.steps)

    def _look(self) -> None:
        """Scores the held-out rows, and remembers the state where none was better."""
        total, rows = 0.0, 0
        with torch.no_grad():
            for batch in self._data.held_out(self._budget.rows):
                outputs, seen = self._trainable.run(batch.inputs, self._objective.watched)
                total += float(self._objective(batch, outputs, seen)) * len(batch.inputs[0])
                rows += len(batch.inputs[0])
        held_out = total / max(1, rows)
        self._progress.look(held_out)
        if held_out < self._best.loss:
            self._best.take(self._trainable, held_out)

    def _every(self, times: int) -> int:
        return max(1, self._budget.steps // times)

    def _rate(self, step: int) -> float:
        """The learning rate as a share of its height: a short rise, then half a cosine to zero."""
        rise = max(1, round(_WARMUP * self._budget.steps))
        if step < rise:
            return (step + 1) / rise
        left = (step - rise) / max(1, self._budget.steps - rise)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, left)))
