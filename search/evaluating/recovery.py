"""Recovery: candidates trained between assembling and scoring, on the training split of the task."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.storage.stored import StoredTensor
from paredown.compressors.training.kept import CHECKPOINT_S, TrainedModels, digest_of
from paredown.compressors.training.losses import LossWeights
from paredown.compressors.training.recovering import Recover
from paredown.compressors.training.trainable import View
from paredown.compressors.training.trainer import (
    Budget,
    Trained,
    Trainer,
    TrainingError,
    trained,
)
from paredown.search.config.schema import Config
from paredown.search.config.schema_recovery import RecipeSection, RecoverySection
from paredown.search.config.schema_task import CustomTask
from paredown.search.evaluating.augmenting import Augment, augmentation, check_augmentation
from paredown.search.evaluating.computing_device import computing_device, has_bfloat16
from paredown.search.evaluating.training_rows import TrainingRows
from paredown.search.study.evaluation import Evaluation, of_rung
from paredown.search.study.rung import Recipe, Rung
from paredown.search.tasks.metrics import Loss
from paredown.search.tasks.splits import Split
from paredown.search.tasks.task import Task
from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.candidates.drafting import draft
from paredown.spaces.capture.capturing import as_inputs, capture
from paredown.spaces.graph.graph import Graph
from paredown.spaces.structure.reading import read_model_map

_TRIED_ROWS = 8
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
    the same budget and seed. A training is saved every `checkpoint_s` seconds, and has `threads` threads
    on the CPU; None leaves as many as the process has.
    """

    trainer: Trainer
    rungs: tuple[TrainingRung, ...]
    batch_rows: int = 128
    held_out_rows: int = 1000
    augment: Augment | None = None
    augment_name: str = ""
    seed: int = 0
    checkpoint_s: float = CHECKPOINT_S
    threads: int | None = None

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
            state = self.kept.state(begins, recovery.trainer.name)
            steps = recovery.rungs[number].steps
        data = TrainingRows(
            split=self._split.on(model.device),
            graph=model.blueprint.graph,
            task_loss=self.loss,
            reference=reference,
            class_dim=self.class_dim,
            held_out_rows=recovery.held_out_rows,
            augment=recovery.augment,
        )
        name = _name(begins or digest_of(model), recipe, steps)
        checkpoint = self.kept.checkpoint(name, recovery.checkpoint_s)
        budget = Budget(steps=steps, rows=recovery.batch_rows)
        seed = recovery.seed + _SEEDS_APART * number
        try:
            with _threads(recovery.threads):
                found = trained(recovery.trainer, model, data, budget, seed, state, checkpoint)
        except TrainingError:
            # It would fail again from there.
            checkpoint.remove()
            raise
        key = self.kept.put(found.model)
        self.kept.put_state(key, found.state, recovery.trainer.name)
        checkpoint.remove()
        return found, key

    def tidy(
        self, rung: Rung, evaluations: Sequence[Evaluation], front: Iterable[Evaluation]
    ) -> None:
        """Removes, once all is trained on a rung, what nothing goes on from any more.

        Of states from the rungs below only those of the front are of use: for who trains one further.
        """
        own = of_rung(evaluations, rung)
        below = {e.trained for e in evaluations if e.trained and e.rung.number < rung.number}
        self.kept.remove_states(below - {e.trained for e in (*own, *front)})
        # Before the last rung is over, some are of a training that was interrupted there.
        if rung.recipe == self.recovery.recipes[-1]:
            self.kept.remove_checkpoints()


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """So many torch threads inside, as many as before behind."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if count is None else count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _name(before: str, recipe: Recipe, steps: int) -> str:
    """Of a training: what it begins with and what is done."""
    text = f"{before} {recipe} {steps}"
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def configured_recovery(config: Config) -> Recovery | None:
    """What `recovery` says; None where it is absent.

    Raises:
        UserCodeError: The user's augmentation cannot be imported.
    """
    section = config.recovery
    if section is None:
        return None
    return recovery_of(config, section)


def recover(
    model: CompressedModel,
    task: Task,
    recipe: RecipeSection | None = None,
    *,
    steps: int = 500,
    architecture: str | None = None,
    seed: int = 0,
) -> Trained:
    """A compressed model of a task trained towards the answers of the uncompressed network.

    Operators, storage and tensors' names stay: the result is scored and exported as `model` is.

    Args:
        recipe: As `recovery.recipe` of a config; its defaults if not given. An augmentation of your own
            is imported from the current folder.
        architecture: Which of the task's networks `model` was compressed from; by default the first.

    Raises:
        TrainingError: The training failed; see `trained`.
        UserCodeError: The augmentation cannot be imported.
    """
    section = recipe or RecipeSection()
    data = TrainingRows(
        split=task.splits.open_train().on(model.device),
        graph=model.blueprint.graph,
        task_loss=task.loss,
        reference=_uncompressed(task, architecture, model.blueprint.graph).to(model.device),
        class_dim=task.class_dim,
        held_out_rows=section.held_out_rows,
        augment=augmentation(section.augment, Path()),
    )
    trainer = trainer_of(section, model.device)
    return trained(trainer, model, data, Budget(steps=steps, rows=section.batch), seed)


def _uncompressed(task: Task, architecture: str | None, like: Graph) -> CompressedModel:
    """A network of the task as it is, for inputs of the lengths that `like` takes."""
    module = task.module if architecture is None else task.modules[architecture]
    captured = capture(module, task.example, like.lengths if like.timed else None)
    blueprint = draft(read_model_map(captured), Candidate())
    stored = {n: StoredTensor.unchanged(captured.tensors[n]) for n in blueprint.storage}
    return CompressedModel(blueprint=blueprint, stored=stored)


def check_training(recovery: Recovery, split: Split, graphs: Sequence[Graph]) -> None:
    """Asks whether networks can be trained, and tries what is done with inputs on some rows of a split.

    Args:
        graphs: Of the uncompressed networks, which take the same inputs.

    Raises:
        TrainingError: The trainer cannot train one of the networks.
        UserCodeError: The augmentation does not fit the rows.
    """
    for graph in graphs:
        recovery.trainer.check(graph)
    if recovery.augment is not None:
        inputs = tuple(as_inputs(graphs[0], split.rows(0, min(_TRIED_ROWS, len(split)))[0]))
        check_augmentation(recovery.augment, recovery.augment_name, inputs)


def recovery_of(config: Config, section: RecoverySection) -> Recovery:
    """The recovery that `section` describes, seeded as the search is."""
    recipe = section.recipe
    # Built-in tasks have no code of the user's: it is found from where the search was started.
    code_folder = config.task.code_folder if isinstance(config.task, CustomTask) else Path()
    return Recovery(
        trainer=trainer_of(recipe, computing_device(config.search)),
        rungs=tuple(TrainingRung(rung.steps, rung.keep) for rung in section.rungs),
        batch_rows=recipe.batch,
        held_out_rows=recipe.held_out_rows,
        augment=augmentation(recipe.augment, code_folder),
        augment_name=recipe.augment or "",
        seed=config.search.seed,
        checkpoint_s=section.checkpoint_s,
        threads=section.threads_per_worker,
    )


def trainer_of(recipe: RecipeSection, device: torch.device) -> Recover:
    """The trainer of a recipe, for this device."""
    loss, precision = recipe.loss, recipe.precision
    if precision == "auto":
        precision = "bfloat16" if has_bfloat16(device) else "float32"
    return Recover(
        view=View(quantizer=recipe.quantizer, activations=recipe.activations, norms=recipe.norms),
        losses=LossWeights(
            logits=loss.logits,
            labels=loss.labels,
            blocks=loss.blocks,
            kernels=loss.kernels,
            temperature=loss.temperature,
        ),
        lr=recipe.lr,
        clip_norm=recipe.clip_norm,
        ema=recipe.ema,
        damping=recipe.damping,
        precision=precision,
    )
