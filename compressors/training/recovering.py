"""The trainer of paredown: any compressed model towards the answers of its uncompressed network.

A loop of ordinary PyTorch: AdamW with a cosine schedule, where every tensor's learning rate is a share of
the size of its own values, so that one rate fits weights, scales, biases and norms of any network. The
best state seen on held-out training rows is what comes back, the start among them: each look at these
rows is at the very model that would be exported.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.training.losses import LossWeights, Objective, answers
from paredown.compressors.training.norms import check_norms
from paredown.compressors.training.progress import Average, Best, Moving, Progress
from paredown.compressors.training.trainable import Trainable, View
from paredown.compressors.training.trainer import (
    Batch,
    Budget,
    Checkpoint,
    Trained,
    TrainingData,
    TrainingError,
)
from paredown.spaces.graph.graph import Graph

Precision = Literal["float32", "bfloat16"]
"""What layers compute in while they train."""
_WARMUP = 0.05
"""Share of the steps in which the learning rate rises."""
_LOOKS = 8
"""How often held-out rows are scored on the way, at most."""
_LOOKED_SHARE = 1 / 4
"""Of the rows trained on, so many held-out rows are scored on the way, at most: a row that is trained on
costs three times as much."""
_RANKINGS = 20
"""How often the supports of sparse tensors are chosen anew."""
_OBSERVED = 6
"""Batches that live norms start with the statistics of."""
_DAMPED_FROM = 2 / 3
"""Share of the steps from which latent weights are pulled to the middle of their codes."""


@dataclass(frozen=True, kw_only=True)
class Recover:
    """Trains a compressed model as a recipe says.

    Args:
        view: What learns and how codes are found while it does.
        losses: What is minimised.
        lr: Learning rate at its height, as a share of the size of each tensor's values.
        clip_norm: Largest norm of the gradient of all parameters together; 0 clips nothing.
        ema: Decay of the running average of what learns, which is then what is kept; 0 keeps the values
            of single steps.
        damping: Share of the way to the middle of its code that a latent weight is moved at each step,
            rising to this over the last third of the steps, so that codes settle; 0 moves none.
        precision: What layers compute in on the way forward and back (mixed precision: parameters, their
            gradients and the loss stay float32); held-out rows are always scored in float32.
    """

    view: View = field(default_factory=View)
    losses: LossWeights = field(default_factory=LossWeights)
    lr: float = 8e-3
    clip_norm: float = 0.0
    ema: float = 0.0
    damping: float = 0.0
    precision: Precision = "float32"

    @property
    def name(self) -> str:
        """The recipe and its version."""
        parts = {
            "gradients clipped at": self.clip_norm,
            "averaged with decay": self.ema,
            "damped by": self.damping,
        }
        extra = "".join(f", {what} {value:g}" for what, value in parts.items() if value)
        extra += ", live norms" * (self.view.norms == "live")
        extra += f", {self.precision}" * (self.precision != "float32")
        return (
            f"recovery 2 ({self.view.quantizer}, activations {self.view.activations}, "
            f"{self.losses.text}, lr {self.lr:g}{extra})"
        )

    def check(self, graph: Graph) -> None:
        """Nothing, where norms have a place in this network; see `check_norms`.

        Raises:
            TrainingError: They have none.
        """
        check_norms(self.view.norms, graph)

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
            TrainingError: A loss is no finite number or depends on nothing that learns, there are no
                rows to train on or to hold out, or it cannot train this network, see `check`.
        """
        self.check(data.reference.blueprint.graph)
        trainable = Trainable(model, self.view, data.reference.tensors)
        if state:
            trainable.load_state_dict(dict(state))
        else:
            batches = itertools.islice(data.batches(budget.rows, seed), _OBSERVED)
            trainable.observe(each.inputs for each in batches)
        # A quantiser may start beside the codes of the model itself, which is then what is kept.
        return _Training(self, trainable, data, budget, seed, checkpoint).carry_out(model)


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
        self._average = Average(trainable, recipe.ema)
        self._moving = Moving(trainable, self._optimizer, self._average, self._best)
        saved = checkpoint.load() if checkpoint else None
        if saved is not None:
            self._progress.restore(saved, self._moving)
        held_out = sum(len(each.inputs[0]) for each in data.held_out(budget.rows))
        affordable = _LOOKED_SHARE * budget.steps * budget.rows / max(1, held_out)
        self._looks = min(_LOOKS, max(1, int(affordable)))
        begun = self._progress.step
        self._schedule = LambdaLR(self._optimizer, lambda step: self._rate(begun + step))

    def carry_out(self, start: CompressedModel) -> Trained:
        """Steps from `start` until the budget is spent."""
        if not self._progress.curve:
            self._look(start)
        saved_s = time.monotonic()
        for batch in self._batches():
            self._step(batch)
            step = self._progress.step
            if step % self._every(self._looks) == 0 or step == self._budget.steps:
                with self._average.applied():
                    self._look(self._trainable.freeze())
            if self._checkpoint and time.monotonic() - saved_s > self._checkpoint.every_s:
                self._checkpoint.save(self._progress.saved(self._moving))
                saved_s = time.monotonic()
        self._trainable.load_state_dict(self._best.state)
        curve = tuple(self._progress.curve)
        is_start = self._best.loss == curve[0].held_out_loss
        model = start if is_start else self._trainable.freeze()
        return Trained(model=model, state=self._best.state, curve=curve)

    def _batches(self) -> Iterator[Batch]:
        """The batches that are left, epoch after epoch, each in an order of its own."""
        number, epoch = 0, 0
        while number < self._budget.steps:
            before = number
            for batch in self._data.batches(self._budget.rows, self._seed + epoch):
                if number >= self._progress.step:
                    yield batch
                else:
                    # The same answers as without the interruption: kernels round by the whole batch.
                    with self._mixed():
                        self._objective.remember(batch)
                number += 1
                if number == self._budget.steps:
                    return
            if number == before:
                raise TrainingError("training needs rows, got an empty training split; give some")
            epoch += 1

    def _step(self, batch: Batch) -> None:
        with self._mixed():
            outputs, seen = self._trainable.run(batch.inputs, self._objective.watched)
            loss = self._objective(batch, outputs, seen)
        value = self._finite(float(loss.detach()), "training")
        if not loss.requires_grad:
            raise TrainingError(
                f"the loss must depend on what learns, got {self._recipe.losses.text or 'no part'}; "
                "let logits or labels count: no block of this model has the uncompressed one's width"
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
        self._damp()
        self._average.add(self._progress.step)
        if self._progress.step % self._every(_RANKINGS) == 0:
            self._trainable.rank(self._progress.step / self._budget.steps)

    def _mixed(self) -> torch.autocast:
        is_mixed = self._recipe.precision == "bfloat16"
        device = self._trainable.model.device
        return torch.autocast(device.type, torch.bfloat16, enabled=is_mixed)

    def _damp(self) -> None:
        """Pulls latent weights to the middle of their codes, more towards the end."""
        done = self._progress.step / self._budget.steps
        rise = (done - _DAMPED_FROM) / (1 - _DAMPED_FROM)
        if self._recipe.damping and rise > 0:
            self._trainable.pull(self._recipe.damping * rise)

    def _look(self, model: CompressedModel) -> None:
        """Scores the held-out rows, and remembers the state where none was better."""
        total, rows = 0.0, 0
        with torch.no_grad():
            for batch in self._data.held_out(self._budget.rows):
                outputs, seen = answers(model, batch.inputs, self._objective.watched)
                total += float(self._objective(batch, outputs, seen)) * len(batch.inputs[0])
                rows += len(batch.inputs[0])
        if not rows:
            raise TrainingError(
                "training needs held-out rows, got none; give a larger training split"
            )
        held_out = self._finite(total / rows, "held-out")
        self._progress.look(model, held_out)
        if held_out < self._best.loss:
            self._best.take(self._trainable, held_out)

    def _finite(self, loss: float, which: str) -> float:
        if math.isfinite(loss):
            return loss
        raise TrainingError(
            f"the {which} loss must be a finite number, got {loss:g} after {self._progress.step} "
            "steps; lower recovery.recipe.lr, or clip the gradients"
        )

    def _every(self, times: int) -> int:
        return max(1, self._budget.steps // times)

    def _rate(self, step: int) -> float:
        """The learning rate as a share of its height: a short rise, then half a cosine to zero."""
        rise = max(1, round(_WARMUP * self._budget.steps))
        if step < rise:
            return (step + 1) / rise
        left = (step - rise) / max(1, self._budget.steps - rise)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, left)))
