"""Data splits: compact tensors in memory, prepared batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from paredown.compressors.storage.stored import CPU
from paredown.spaces.system.errors import ParedownError

Prepare = Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]]
Inputs = list[Tensor] | dict[str, Tensor]
Targets = Tensor | tuple[Tensor, ...]


class DataError(ParedownError):
    """The data that a task names cannot be used."""


def as_they_are(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The inputs unchanged: the `prepare` of data that are stored as the model takes them."""
    return inputs


@dataclass(frozen=True, kw_only=True)
class Split:
    """Rows of data: `inputs` batch first as stored (uint8 images stay uint8), and their targets.

    `prepare` turns a batch of them into what the model takes. `names` are the arguments of forward
    where the user gives inputs by name; else the inputs are in forward's order. `named` says where they
    come from. `mask` names the input (rows, time) that is zero at padding; "" where no row is padded. The
    rows lie on the CPU; batches are handed out on `device`.
    """

    inputs: tuple[Tensor, ...]
    targets: Targets
    prepare: Prepare = as_they_are
    names: tuple[str, ...] = ()
    named: str = "the data"
    mask: str = ""
    device: torch.device = CPU

    def __post_init__(self) -> None:
        targets = self.targets if isinstance(self.targets, tuple) else (self.targets,)
        sizes = {t.shape[0] if t.dim() else 0 for t in (*self.inputs, *targets)}
        if len(sizes) != 1 or not self.inputs or sizes == {0}:
            raise DataError(
                "inputs and targets of a split must have one and the same number of rows, above "
                f"zero, got {sorted(sizes)}; give tensors with the batch first"
            )

    def __len__(self) -> int:
        return int(self.inputs[0].shape[0])

    def on(self, device: torch.device) -> Split:
        """The same rows, whose batches `rows` and `batches` give on `device`."""
        return replace(self, device=device)

    def batches(self, size: int, rows: int | None = None) -> Iterator[tuple[Inputs, Targets]]:
        """Prepared inputs and targets of the first `rows` rows, `size` at a time, in order."""
        count = len(self) if rows is None else min(rows, len(self))
        for start in range(0, count, size):
            yield self.rows(start, min(start + size, count))

    def as_prepared(self, start: int, stop: int) -> tuple[Tensor, ...]:
        """Inputs of the rows start..stop-1, exactly as `prepare` gives them."""
        return tuple(self.prepare(tuple(t[start:stop] for t in self.inputs)))

    def rows(self, start: int, stop: int) -> tuple[Inputs, Targets]:
        """Prepared inputs, floats in float32, and targets of the rows start..stop-1.

        Raises:
            DataError: An input holds NaN.
        """
        prepared = (self._as_taken(x, start) for x in self.as_prepared(start, stop))
        inputs = tuple(x.to(self.device) for x in prepared)
        if isinstance(self.targets, tuple):
            targets: Targets = tuple(t[start:stop].to(self.device) for t in self.targets)
        else:
            targets = self.targets[start:stop].to(self.device)
        if self.names:
            return dict(zip(self.names, inputs, strict=True)), targets
        return list(inputs), targets

    def real_positions(self, inputs: Inputs) -> Tensor | None:
        """Positions of a batch that are not padding, (rows, time), boolean; None where rows have none."""
        return inputs[self.mask] != 0 if isinstance(inputs, dict) and self.mask else None

    def _as_taken(self, x: Tensor, start: int) -> Tensor:
        """Inputs as a graph takes them; NumPy's float64 and half precision become float32."""
        if not x.is_floating_point():
            return x
        if (bad := x.isnan()).any():
            row = start + int(
                bad.flatten(1).any(1).nonzero()[0] if x.dim() > 1 else bad.nonzero()[0]
            )
            raise DataError(
                f"{self.named}: inputs must be numbers, got NaN in row {row}; drop such rows, or fill "
                "them in the data factory"
            )
        return x.float()

    def take(self, index: Tensor) -> Split:
        """The rows that `index` (int64) names, copied, in its order."""
        targets = self.targets
        taken = tuple(t[index] for t in targets) if isinstance(targets, tuple) else targets[index]
        return replace(self, inputs=tuple(t[index] for t in self.inputs), targets=taken)

    def shuffled(self, count: int, seed: int) -> Split:
        """`count` rows (all, if there are fewer) drawn without replacement, in random order."""
        generator = torch.Generator().manual_seed(seed)
        return self.take(torch.randperm(len(self), generator=generator)[:count])


@dataclass(frozen=True, kw_only=True)
class Splits:
    """The four splits of a task; `calibration` is in random order.

    Train and test are opened by a call: train because it is large, test because nothing but
    `verify` and the final report may look at it.
    """

    calibration: Split
    search: Split
    open_train: Callable[[], Split]
    open_test: Callable[[], Split]


def of_length(inputs: Inputs, length: int) -> Inputs:
    """Inputs of another length: cut, or repeated from the start, along the second dimension.

    That is time for the first input and for those that are as long; the others stay.
    """
    values = list(inputs.values()) if isinstance(inputs, dict) else inputs
    time = values[0].shape[1:2]
    made = [
        x[:, torch.arange(length) % x.shape[1]] if x.shape[1:2] == time != () else x
        for x in values
    ]
    return dict(zip(inputs, made, strict=True)) if isinstance(inputs, dict) else made
