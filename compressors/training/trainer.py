"""What trains a compressed model, on what and for how long; and the check of what it returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from paredown.compressors.storage.checking import CheckError, check_values
from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.storage.stored import StoredTensor
from paredown.compressors.training.activations import with_scales_of
from paredown.spaces.graph.graph import Graph
from paredown.spaces.system.errors import ParedownError

Targets = Tensor | tuple[Tensor, ...]


class TrainingError(ParedownError):
    """A model cannot be trained, or a trainer returned something other than what it was given."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows to train on: `inputs` in the order of the graph's inputs, batch first, and their targets.

    `rows` are the numbers (batch,) of the rows among the training data, None where each drawing of a row
    is another, so that nothing can be computed of it once and for all.
    """

    inputs: tuple[Tensor, ...]
    targets: Targets
    rows: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long a trainer may train: for so many batches of `rows` rows."""

    steps: int
    rows: int = 128


class TrainingData(Protocol):
    """The rows that a model is trained on, and what it is trained for."""

    @property
    def reference(self) -> CompressedModel:
        """The uncompressed network."""

    @property
    def class_dim(self) -> int | None:
        """The dimension of the first output that holds logits of classes; None where none does."""

    def batches(self, rows: int, seed: int) -> Iterator[Batch]:
        """Every row once, `rows` at a time, in an order drawn with `seed`; the last may be smaller."""

    def held_out(self, rows: int) -> Iterator[Batch]:
        """Rows that `batches` never gives, always the same."""

    def loss(self, outputs: tuple[Tensor, ...], targets: Targets) -> Tensor:
        """The mean loss over a batch, shape (), with a gradient by the outputs."""


class Checkpoint(Protocol):
    """Where a trainer keeps what it needs to go on from when it is interrupted."""

    def load(self) -> Mapping[str, Tensor] | None:
        """What was saved last; None where nothing was."""

    def save(self, state: Mapping[str, Tensor]) -> None:
        """Keeps the tensors in the place of those before; takes effect whole or not at all."""

    @property
    def every_s(self) -> float:
        """Seconds of training between two savings."""


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """Losses after `step` steps: of training since the point before, and of held-out rows.

    Where nothing was trained yet both are that of the held-out rows.

    `flips` is the share of codes that are others than at the point before.
    """

    step: int
    loss: float
    held_out_loss: float
    flips: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained model, what further training goes on from, and how the loss went."""

    model: CompressedModel
    state: Mapping[str, Tensor] = field(default_factory=dict)
    curve: tuple[CurvePoint, ...] = ()


class Trainer(Protocol):
    """Trains a compressed model."""

    @property
    def name(self) -> str:
        """Name and version: results of two names are never compared with each other."""

    def check(self, graph: Graph) -> None:
        """Nothing, where it can train what is compressed from the network of this graph.

        Raises:
            TrainingError: It cannot, whatever is done to the layers.
        """

    def __call__(
        self,
        model: CompressedModel,
        data: TrainingData,
        budget: Budget,
        seed: int,
        state: Mapping[str, Tensor] | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Trained:
        """The trained model: the same operators and storage, the argument unchanged.

        Args:
            state: What this trainer returned when it trained the model before.
            checkpoint: Where to save on the way, and to go on from where something is.
        """


def trained(
    trainer: Trainer,
    model: CompressedModel,
    data: TrainingData,
    budget: Budget,
    seed: int,
    state: Mapping[str, Tensor] | None = None,
    checkpoint: Checkpoint | None = None,
) -> Trained:
    """What `trainer` makes of `model`, held against what it may change.

    Raises:
        TrainingError: Its operators, tensors or storage are not the model's own, or a value cannot be
            computed with.
    """
    result = trainer(model, data, budget, seed, state, checkpoint)
    check_trained(trainer.name, model, result.model)
    return result


def check_trained(who: str, model: CompressedModel, found: CompressedModel) -> None:
    """Nothing, where `found` is `model` with other values to compute with.

    Args:
        who: What trained it, for the message.

    Raises:
        TrainingError: As `trained`.
    """
    allowed = with_scales_of(model.blueprint, found.blueprint)
    if found.blueprint != allowed or found.stored.keys() != model.stored.keys():
        raise TrainingError(
            f"a trainer must keep the model's operators and the names of its tensors, {who} "
            "changed them; return the model with other values"
        )
    for name, tensor in found.stored.items():
        if _form(tensor) != _form(model.stored[name]):
            raise TrainingError(
                f"a trainer must keep how each tensor is stored, {who} made "
                f"{_form(tensor)} of {_form(model.stored[name])} in {name}; round trained weights "
                "to the codes of their storage"
            )
        try:
            check_values(name, tensor)
        except CheckError as error:
            raise TrainingError(f"{who} must return values to compute with: {error}") from error


def _form(tensor: StoredTensor) -> str:
    """Storage, type and shape of a tensor's parts, in words that differ where one of them does."""
    parts = (tensor.values, tensor.scale, tensor.mask)
    shapes = [None if x is None else f"{x.dtype}{tuple(x.shape)}" for x in parts]
    return f"{tensor.storage} {shapes}"
