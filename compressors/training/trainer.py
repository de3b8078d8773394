"""What trains a compressed model, on what and for how long; and the check of what it returns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from paredown.compressors.storage.checking import CheckError, check_values
from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.storage.stored import StoredTensor
from paredown.spaces.system.errors import ParedownError

Targets = Tensor | tuple[Tensor, ...]


class TrainingError(ParedownError):
    """A trainer returned something other than the model it was given, with other values."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows to train on: `inputs` in the order of the graph's inputs, batch first, and their targets."""

    inputs: tuple[Tensor, ...]
    targets: Targets


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long a trainer may train: for so many batches of `rows` rows."""

    steps: int
    rows: int = 128


class TrainingData(Protocol):
    """The rows that a model is trained on, and the loss that it is trained for."""

    def batches(self, rows: int, seed: int) -> Iterator[Batch]:
        """Every row once, `rows` at a time, in an order drawn with `seed`; the last may be smaller."""

    def loss(self, outputs: tuple[Tensor, ...], targets: Targets) -> Tensor:
        """The mean loss over a batch, shape (), with a gradient by the outputs."""


class Trainer(Protocol):
    """Trains a compressed model."""

    @property
    def name(self) -> str:
        """Name and version: results of two names are never compared with each other."""

    def __call__(
        self, model: CompressedModel, data: TrainingData, budget: Budget, seed: int
    ) -> CompressedModel:
        """The trained model: the same blueprint and storage, the argument unchanged."""


def trained(
    trainer: Trainer, model: CompressedModel, data: TrainingData, budget: Budget, seed: int
) -> CompressedModel:
    """What `trainer` makes of `model`, held against what it may change.

    Raises:
        TrainingError: Its blueprint, tensors or storage are not the model's own, or a value cannot be
            computed with.
    """
    found = trainer(model, data, budget, seed)
    if found.blueprint != model.blueprint or found.stored.keys() != model.stored.keys():
        raise TrainingError(
            f"a trainer must keep the model's blueprint and the names of its tensors, {trainer.name} "
            "changed them; return the model with other values"
        )
    for name, tensor in found.stored.items():
        if _form(tensor) != _form(model.stored[name]):
            raise TrainingError(
                f"a trainer must keep how each tensor is stored, {trainer.name} made "
                f"{_form(tensor)} of {_form(model.stored[name])} in {name}; round trained weights "
                "to the codes of their storage"
            )
        try:
            check_values(name, tensor)
        except CheckError as error:
            raise TrainingError(
                f"{trainer.name} must return values to compute with: {error}"
            ) from error
    return found


def _form(tensor: StoredTensor) -> str:
    """Storage, type and shape of a tensor's parts, in words that differ where one of them does."""
    parts = (tensor.values, tensor.scale, tensor.mask)
    shapes = [None if x is None else f"{x.dtype}{tuple(x.shape)}" for x in parts]
    return f"{tensor.storage} {shapes}"
