"""The section `recovery`: how candidates are trained before they are scored for the front."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from paredown.search.config.schema_section import RunFolder, Section
from paredown.search.config.schema_task import IMPORT_PATH

AUGMENTATIONS = ("flips_and_crops", "masks", "tokens")
Quantizer = Literal["lsq", "laq", "sat", "frozen"]


def _augmentation_or_import_path(value: str) -> str:
    if value not in AUGMENTATIONS and not IMPORT_PATH.fullmatch(value):
        names = ", ".join(map(repr, AUGMENTATIONS))
        raise ValueError(f"must be one of {names} or your package.module:function")
    return value


class LossSection(Section):
    """What training minimises: the sum of its parts, each times its weight."""

    logits: float = Field(
        1.0,
        ge=0,
        description="Distance of the outputs from the uncompressed network's: divergence of logits at "
        "`temperature`, squared error where outputs are no logits. Needs no labels.",
    )
    labels: float = Field(0.0, ge=0, description="The task's own loss.")
    blocks: float = Field(
        0.0, ge=0, description="Squared error of what blocks give, where both have the same width."
    )
    kernels: float = Field(
        0.0, ge=0, description="One less the alignment of the kernels of what blocks give."
    )
    temperature: float = Field(2.0, gt=0, le=100, description="What logits are divided by.")

    @model_validator(mode="after")
    def _has_a_part(self) -> LossSection:
        if not (self.logits or self.labels or self.blocks or self.kernels):
            raise ValueError("must have a part above 0, got none; give `logits` a weight")
        return self


class RecipeSection(Section):
    """How a candidate is trained."""

    quantizer: Quantizer = Field(
        "lsq",
        description="How codes are found while weights train: lsq (latent weights and scales learn), "
        "laq (projected in the loss's own metric), sat (squashed and rescaled) or frozen (codes stay, "
        "scales, biases and norms learn).",
    )
    activations: Literal["fixed", "lsq", "pact"] = Field(
        "lsq",
        description="Scales of 8-bit activations: fixed, or learned by the gradient of rounding and "
        "clipping (lsq) or of clipping alone (pact).",
    )
    norms: Literal["folded", "live"] = Field(
        "folded",
        description="Layers while they train: as they are exported (folded), or each that can take one "
        "up with a batch norm behind it (live), which bears larger learning rates and is folded in.",
    )
    loss: LossSection = Field(LossSection(), description="What is minimised.")
    lr: float = Field(
        8e-3,
        gt=0,
        le=1,
        description="Learning rate at its height, as a share of the size of each tensor's values.",
    )
    clip_norm: float = Field(
        0.0, ge=0, description="Largest norm of the whole gradient; 0 clips nothing."
    )
    ema: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Decay of the running average of what learns, which is then kept; 0: no average.",
    )
    damping: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of the way to the middle of its code that a latent weight moves at each step, "
        "rising to this over the last third of the steps; 0 moves none.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "float32",
        description="What layers compute in while they train (scores are always of float32): bfloat16 is "
        "faster where the processor has its instructions; auto takes it there.",
    )
    batch: int = Field(128, ge=1, le=65536, description="Rows of a step.")
    held_out_rows: int = Field(
        1000,
        ge=1,
        description="Training rows kept for choosing the best state, at most a fifth of them.",
    )
    augment: Annotated[str, AfterValidator(_augmentation_or_import_path)] | None = Field(
        None,
        description="What changes training inputs: flips_and_crops (images), masks (spectrograms), "
        "tokens (a tenth replaced), or package.module:function of your own, called with (inputs, "
        "generator); null: nothing, and the uncompressed network then answers once for each row.",
    )


class TrainingRungSection(Section):
    """One rung of training."""

    steps: int = Field(
        ge=1, le=10_000_000, description="Steps, on top of those of the rung before."
    )
    keep: int = Field(
        ge=1,
        description="Candidates that are trained here: the leading ones of the rung before. References "
        "are not trained.",
    )


class RecoverySection(Section):
    """Training of the leading candidates, so that the front is that of trained models."""

    recipe: RecipeSection = Field(RecipeSection(), description="How a candidate is trained.")
    rungs: tuple[TrainingRungSection, ...] = Field(
        (TrainingRungSection(steps=150, keep=12), TrainingRungSection(steps=600, keep=6)),
        min_length=1,
        description="Rungs after the training-free one: fewer candidates, trained further.",
    )
    prior: tuple[RunFolder, ...] = Field(
        (),
        description="Folders of earlier runs, relative to the current one: what training gave back there "
        "is expected here. Their networks may be others.",
    )
    budget_s: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Seconds for all training; a search whose estimate is above it does not start.",
    )
    checkpoint_s: float = Field(
        30.0,
        gt=0,
        allow_inf_nan=False,
        description="Seconds between two savings of a training under way: what an interruption costs.",
    )
    threads_per_worker: int | None = Field(
        None,
        ge=1,
        le=256,
        description="torch threads of a worker while it trains; null: as search.threads_per_worker.",
    )

    @model_validator(mode="after")
    def _fewer_and_fewer(self) -> RecoverySection:
        kept = [rung.keep for rung in self.rungs]
        if kept != sorted(kept, reverse=True):
            raise ValueError(
                f"rungs must keep fewer and fewer candidates, got {kept}; order them by `keep`"
            )
        return self

    @field_validator("prior")
    @classmethod
    def _each_once(cls, prior: tuple[Path, ...]) -> tuple[Path, ...]:
        names = [folder.name for folder in prior]
        if len(set(names)) < len(names):
            raise ValueError(
                "each run may be given once, by folders of different names; delete one"
            )
        return prior
