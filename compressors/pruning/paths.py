"""Pruning paths, from which the zeros of every sparsity are read, and where they are kept."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.compressors.matrix.selection import smallest
from paredown.compressors.rounding.target import Target


@dataclass(frozen=True, kw_only=True)
class Path:
    """The order in which each row loses its weights, (R, T) column numbers, and what each costs.

    `cost` (R, T), float64, is the rise of the row's error w_p^2 / [H^-1]_pp; the sum over the first t
    is the error, under the damped Gram, of the best weights on the support that is left.
    """

    order: Tensor
    cost: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes of both tensors in memory."""
        return self.order.nbytes + self.cost.nbytes

    def mask(self, removed: int, columns: int) -> Tensor:
        """Boolean (R, columns) of what is left after the `removed` cheapest steps of all rows.

        Rows stop where the next step would be dearest; a path's costs may fall, so a step counts
        as dear as the dearest before it.
        """
        gone = smallest(self.cost.cummax(dim=1).values, removed)
        kept = torch.ones(len(self.order), columns, dtype=torch.bool, device=self.order.device)
        return kept.scatter_(1, self.order.long(), ~gone)


class Paths:
    """The paths used last, found by the matrix and the Gram that they were made from.

    A path costs more than all that follows from it, and layers are asked for in turn: so they
    outlive the workspace of a layer.

    Args:
        capacity_bytes: What paths are kept in; the last one always is.
    """

    def __init__(self, capacity_bytes: int = 2**28) -> None:
        self._capacity_bytes = capacity_bytes
        self._paths: OrderedDict[str, Path] = OrderedDict()

    def get(self, target: Target, pattern: str, make: Callable[[], Path]) -> Path:
        """What `make` gave for an equal target and pattern before, or gives now."""
        key = _digest(target, pattern)
        if key not in self._paths:
            self._paths[key] = make()
            while len(self._paths) > 1 and self._held_bytes() > self._capacity_bytes:
                self._paths.popitem(last=False)
        self._paths.move_to_end(key)
        return self._paths[key]

    def _held_bytes(self) -> int:
        return sum(path.nbytes for path in self._paths.values())


def _digest(target: Target, pattern: str) -> str:
    text = f"{tuple(target.matrix.shape)} {pattern}"
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for tensor in (target.matrix, target.gram.values):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
