"""The recovery that a config asks for."""

from __future__ import annotations

from pathlib import Path

from paredown.compressors.training.losses import LossWeights
from paredown.compressors.training.recovering import Recover
from paredown.compressors.training.trainable import View
from paredown.search.config.schema import Config
from paredown.search.config.schema_recovery import RecipeSection, RecoverySection
from paredown.search.config.schema_task import CustomTask
from paredown.search.recovery.augmenting import augmentation
from paredown.search.recovery.recovery import Recovery, TrainingRung


def configured_recovery(config: Config) -> Recovery | None:
    """What `recovery` says; None where it is absent.

    Raises:
        UserCodeError: The user's augmentation cannot be imported.
    """
    section = config.recovery
    if section is None:
        return None
    return recovery_of(config, section)


def recovery_of(config: Config, section: RecoverySection) -> Recovery:
    """The recovery that `section` describes, seeded as the search is."""
    recipe = section.recipe
    # Built-in tasks have no code of the user's: it is found from where the search was started.
    code_folder = config.task.code_folder if isinstance(config.task, CustomTask) else Path()
    return Recovery(
        trainer=trainer_of(recipe),
        rungs=tuple(TrainingRung(rung.steps, rung.keep) for rung in section.rungs),
        batch_rows=recipe.batch,
        held_out_rows=recipe.held_out_rows,
        augment=augmentation(recipe.augment, code_folder),
        augment_name=recipe.augment or "",
        seed=config.search.seed,
    )


def trainer_of(recipe: RecipeSection) -> Recover:
    """The trainer of a recipe."""
    loss = recipe.loss
    return Recover(
        view=View(quantizer=recipe.quantizer, activations=recipe.activations),
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
    )
