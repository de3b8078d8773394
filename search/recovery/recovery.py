"""Recovery: candidates trained between assembling and scoring, on the training split of the task."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.training.kept import TrainedModels
from paredown.compressors.training.trainer import Budget, Trained, Trainer, trained
from paredown.search.recovery.augmenting import Augment
from paredown.search.recovery.training_rows import TrainingRows
from paredown.search.study.rung import Recipe
from paredown.search.tasks.metrics import Loss
from paredown.search.tasks.splits import Split

_SEEDS_APART = 1_000_003
"""Between the seeds of two rungs: each epoch of a rung adds one to it."""


@dataclass(frozen=True)
class TrainingRung:
    """Of the candidates before, the `keep` leading ones are trained for `steps` more batches."""

    steps: int
    keep: int


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """How the leading candidates of a search are trained before they are scored for its front.

    On the first rung each starts from its assembled tensors, on later ones from where it was; all have
    the same budget and seed.
    """

    trainer: Trainer
    rungs: tuple[TrainingRung, ...]
    batch_rows: int = 128
    held_out_rows: int = 1000
    augment: Augment | None = None
    augment_name: str = ""
    seed: int = 0

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """What evaluations of each rung say of it: the steps are those since the assembled model."""
        name = self.trainer.name + (f", {self.augment_name}" if self.augment_name else "")
        steps, found = 0, []
        for rung in self.rungs:
            steps += rung.steps
            found.append(
                Recipe(trainer=name, steps=steps, batch_rows=self.batch_rows, seed=self.seed)
            )
        return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Recovering:
    """A recovery with all that a worker needs for it: the rows, the loss, and where results are kept."""

    recovery: Recovery
    open_train: Callable[[], Split]
    loss: Loss
    class_dim: int | None
    kept: TrainedModels

    @functools.cached_property
    def _split(self) -> Split:
        return self.open_train()

    def train(
        self, model: CompressedModel, reference: CompressedModel, recipe: Recipe, begins: str
    ) -> tuple[Trained, str]:
        """The trained model and the digest under which it is kept.

        Args:
            model: As assembled.
            reference: The uncompressed network.
            recipe: One of the recovery's.
            begins: The digest of the model that the rung before trained; "" starts anew, and then
                trains for all that the recipe says.

        Raises:
            TrainingError: The trainer failed, or returned something else than the model with other
                values; or the model that it begins with is gone.
        """
        recovery = self.recovery
        number = recovery.recipes.index(recipe)
        steps, state = recipe.steps, None
        if begins:
            model = self.kept.get(begins, model).to(model.device)
            state, steps = self.kept.state(begins), recovery.rungs[number].steps
        data = TrainingRows(
            split=self._split.on(model.device),
            graph=model.blueprint.graph,
            task_loss=self.loss,
            reference=reference,
            class_dim=self.class_dim,
            held_out_rows=recovery.held_out_rows,
            augment=recovery.augment,
        )
        checkpoint = self.kept.checkpoint(_name(begins or self.kept.put(model), recipe, steps))
        budget = Budget(steps=steps, rows=recovery.batch_rows)
        seed = recovery.seed + _SEEDS_APART * number
        found = trained(recovery.trainer, model, data, budget, seed, state, checkpoint)
        key = self.kept.put(found.model)
        self.kept.put_state(key, found.state)
        checkpoint.remove()
        return found, key


def _name(before: str, recipe: Recipe, steps: int) -> str:
    """Of a training: what it begins with and what is done."""
    text = f"{before} {recipe} {steps}"
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
