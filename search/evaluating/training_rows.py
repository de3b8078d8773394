"""The training split of a task as trainers take it."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.training.trainer import Batch
from paredown.search.evaluating.augmenting import Augment
from paredown.search.tasks.metrics import Loss, Outputs
from paredown.search.tasks.splits import Split, Targets
from paredown.spaces.capture.capturing import as_inputs
from paredown.spaces.graph.graph import Graph

_SEED = 20_017
"""Of the rows held out: the same on all rungs and for all candidates, so that none trains on them."""
_LARGEST_SHARE = 5
"""At most one in so many rows is held out."""


@dataclass(frozen=True)
class TrainingRows:
    """A split as trainers take it: the inputs in the order of `graph`, and the loss of the task.

    Args:
        held_out_rows: Rows kept for choosing the best state; at most a fifth of the split.
        augment: Changes the inputs of each batch; None leaves them as they are.
    """

    split: Split
    graph: Graph
    task_loss: Loss
    reference: CompressedModel
    class_dim: int | None
    held_out_rows: int = 1000
    augment: Augment | None = None

    def batches(self, rows: int, seed: int) -> Iterator[Batch]:
        """Every row that is not held out once, in an order drawn with `seed`; the last may be smaller."""
        generator = torch.Generator().manual_seed(seed)
        mine = self._order[self._held_count :]
        for index in mine[torch.randperm(len(mine), generator=generator)].split(rows):
            yield self._batch(index, generator if self.augment else None)

    def held_out(self, rows: int) -> Iterator[Batch]:
        """The rows that are held out, as they are."""
        for index in self._order[: self._held_count].split(rows):
            yield self._batch(index, None)

    def loss(self, outputs: Outputs, targets: Targets) -> Tensor:
        """The mean loss over a batch, shape (), with a gradient by the outputs."""
        return self.task_loss(outputs, targets)

    def _batch(self, index: Tensor, generator: torch.Generator | None) -> Batch:
        inputs, targets = self.split.take(index).rows(0, len(index))
        values = tuple(as_inputs(self.graph, inputs))
        if generator is not None and self.augment is not None:
            values = self.augment(values, generator)
        values = tuple(channels_last(x) for x in values)
        return Batch(inputs=values, targets=targets, rows=index if generator is None else None)

    @property
    def _held_count(self) -> int:
        return min(self.held_out_rows, len(self.split) // _LARGEST_SHARE)

    @functools.cached_property
    def _order(self) -> Tensor:
        generator = torch.Generator().manual_seed(_SEED)
        return torch.randperm(len(self.split), generator=generator)


def channels_last(x: Tensor) -> Tensor:
    """Images laid out as CPU convolutions run fastest; every other tensor as it is."""
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
