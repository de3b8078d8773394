"""What a quantiser is to training: weights that learn, and read as codes and scales at every step.

`lsq.py`, `laq.py` and `sat.py` hold those with latent weights, `frozen.py` the one whose codes stay. All
start at the codes of an assembled model and give codes of the same storage, so that what was trained can
be exported.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paredown.compressors.storage.stored import StoredTensor, spread
from paredown.spaces.candidates.blueprint import Storage

_WITHIN = 0.25
"""Share of the way to the next code where latent weights may start. Codes of refitted layers are often
not the nearest ones, so that nearer to the edge the first steps would flip many: the held-out loss of a
2-bit ResNet-20 rises by half with 0.49, and by a thirtieth with 0.25 or 0, after which 0.25 is ahead."""


@dataclass(frozen=True)
class Learned:
    """A parameter, and the size of its values: learning rates are shares of it."""

    parameter: nn.Parameter
    unit: float


class WeightQuantizer(Protocol):
    """One stored tensor in training; an `nn.Module`."""

    def __call__(self) -> Tensor:
        """The dense weight of the present codes, with a gradient by what is learned.

        Its values are those of `stored().dense()`, bit by bit.
        """

    def learned(self) -> Iterator[Learned]:
        """What an optimiser moves."""

    def stored(self) -> StoredTensor:
        """The present codes and scales, in the storage that the tensor had."""

    def after_step(self) -> None:
        """What is to be done behind each step of the optimiser."""

    def project(self) -> None:
        """Finds the codes of latent weights that were put in from outside, which stay as they are."""

    def pull(self, strength: float) -> None:
        """Moves latent weights by this share of the way to the middle of their codes.

        So that codes whose latent weights lie at an edge stop to change with every step (Nagel et al.
        2022, arXiv:2203.11086).
        """

    def rank(self, progress: float) -> None:
        """Chooses anew which weights of a sparse tensor stay, at a share `progress` of all steps."""


class QuantizerFactory(Protocol):
    """Makes the quantiser of a tensor."""

    def __call__(self, tensor: StoredTensor, wanted: Tensor | None) -> WeightQuantizer:
        """Starts at the codes of `tensor`; `wanted` is the uncompressed weight, None where unknown."""


@dataclass(frozen=True)
class ScaleRows:
    """Takes tensors of a storage's shape apart, so that each row has one scale, and joins them again."""

    storage: Storage

    def split(self, x: Tensor) -> Tensor:
        """(scales, weights of each); what a last group lacks is zero."""
        rows = x.movedim(self.storage.axis, 0).flatten(1)
        size = self.storage.group_size
        if not size:
            return rows
        return F.pad(rows, (0, -rows.shape[1] % size)).reshape(-1, size)

    def join(self, rows: Tensor) -> Tensor:
        """The tensor that `split` took apart."""
        axis = self.storage.axis
        shape = list(self.storage.shape)
        count = shape.pop(axis)
        columns = self.storage.count // max(1, count)
        return rows.reshape(count, -1)[:, :columns].reshape(count, *shape).movedim(0, axis)


def latent_weights(tensor: StoredTensor, wanted: Tensor | None) -> Tensor:
    """Where latent weights start: as near to the uncompressed ones as their codes allow.

    They then know which code is the next best, which the middle of a code would not say.
    """
    dense = tensor.dense()
    if wanted is None or wanted.shape != dense.shape:
        return dense.clone()
    assert tensor.scale is not None
    # Codes are a step apart, but -1 and 1 of one bit are two.
    way = 2 if tensor.storage.bits == 1 else 1
    room = _WITHIN * way * spread(tensor.scale, tensor.storage)
    return torch.minimum(torch.maximum(wanted, dense - room), dense + room)


def size_of_values(x: Tensor) -> float:
    """Root mean square of what is not zero; 1 where all is."""
    count = int((x != 0).sum())
    return float(x.double().square().sum().div(count).sqrt()) if count else 1.0


def as_stored(storage: Storage, codes: Tensor, scale: Tensor, mask: Tensor | None) -> StoredTensor:
    """The stored tensor of whole codes that are still floats."""
    return StoredTensor(
        storage=storage,
        values=codes.detach().to(torch.int8),
        scale=scale.detach().clone(),
        mask=None if mask is None else mask.clone(),
    )


def masked(codes: Tensor, mask: Tensor | None) -> Tensor:
    """Codes that vanish where nothing is kept."""
    return codes if mask is None else codes * mask
