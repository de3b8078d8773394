"""Shared by the tests of training: stored tensors of every kind, and rows to train on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.storage.stored import StoredTensor
from paredown.compressors.training.trainer import Batch
from paredown.spaces.candidates.blueprint import Storage


def _mask(index: str, rows: Tensor, draw: torch.Generator) -> Tensor | None:
    """Which weights of the matrix are kept, in a pattern of that index."""
    if index == "none":
        return None
    count, columns = rows.shape
    whole = columns // 4 * 4
    mask = torch.ones(count, columns, dtype=torch.bool)
    if index == "block":
        units = torch.rand(count, whole // 4, generator=draw) < 0.5
        mask[:, :whole] = units.repeat_interleave(4, dim=1)
    elif index == "2:4":
        best = torch.rand(count, whole // 4, 4, generator=draw).topk(2, dim=2).indices
        units = torch.zeros(count, whole // 4, 4, dtype=torch.bool).scatter_(2, best, True)
        mask[:, :whole] = units.view(count, whole)
    else:
        mask = torch.rand(count, columns, generator=draw) < 0.6
    return mask


def _coded(
    bits: int = 2,
    index: str = "none",
    shape: tuple[int, ...] = (6, 10),
    axis: int = 0,
    group_size: int = 0,
    seed: int = 0,
) -> StoredTensor:
    """Random codes of that storage."""
    draw = torch.Generator().manual_seed(seed)
    top = max(1, 2 ** (bits - 1) - 1)
    codes = torch.randint(-top, top + 1, shape, generator=draw, dtype=torch.int8)
    if bits == 1:
        codes = torch.where(codes < 0, -1, 1).to(torch.int8)
    rows = codes.movedim(axis, 0).flatten(1)
    mask = _mask(index, rows, draw)
    if mask is not None:
        mask = mask.view(codes.movedim(axis, 0).shape).movedim(0, axis).contiguous()
        codes = codes * mask
    storage = Storage(
        shape=shape,
        bits=bits,
        axis=axis,
        kept=codes.numel() if mask is None else int(mask.sum()),
        index=index,
        group_size=group_size,
    )
    scale = 0.05 + 0.1 * torch.rand(storage.scale_shape, generator=draw)
    return StoredTensor(storage=storage, values=codes, scale=scale, mask=mask)


@pytest.fixture
def coded() -> Callable[..., StoredTensor]:
    """(bits, index, shape, axis, group_size, seed) -> a tensor of random codes."""
    return _coded


@dataclass
class Points:
    """Rows with classes, the first `held` of them held out."""

    reference: CompressedModel
    inputs: Tensor
    targets: Tensor
    numbered: bool = True
    held: int = 16
    class_dim: int | None = 1

    def batches(self, rows: int, seed: int) -> Iterator[Batch]:
        """All but the first in an order by seed."""
        draw = torch.Generator().manual_seed(seed)
        order = self.held + torch.randperm(len(self.inputs) - self.held, generator=draw)
        for chosen in order.split(rows) if len(order) else ():
            yield self._batch(chosen)

    def held_out(self, rows: int) -> Iterator[Batch]:
        """The first."""
        for chosen in torch.arange(self.held).split(rows) if self.held else ():
            yield self._batch(chosen)

    def loss(self, outputs: tuple[Tensor, ...], targets: Tensor) -> Tensor:
        """Cross-entropy."""
        return F.cross_entropy(outputs[0], targets)

    def _batch(self, chosen: Tensor) -> Batch:
        return Batch(
            inputs=(self.inputs[chosen],),
            targets=self.targets[chosen],
            rows=chosen if self.numbered else None,
        )


class Net(torch.nn.Module):
    """Two layers with a ReLU in between."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Linear(8, 12), torch.nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of five classes."""
        return self.second(torch.relu(self.first(x)))


@pytest.fixture
def small(identity, with_weights, with_codes) -> tuple[CompressedModel, Points]:
    """A small network at 2 bits with 8-bit activations, and rows to train it on."""
    draw = torch.Generator().manual_seed(1)
    inputs = torch.randn(58, 8, generator=draw)
    reference = identity(Net(), inputs[:1])
    model = with_codes(with_weights(reference, 2, "int2"), inputs)
    targets = torch.randint(5, (58,), generator=draw)
    return model, Points(reference, inputs, targets)
