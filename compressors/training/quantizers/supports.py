"""Which weights of a sparse tensor are kept while it trains: as many as before, not always the same.

Weights are ranked by what keeping them saves: the error of being zero less that of being a code (the l0
step of Hou's joint quantisation and sparsification; see `pruning/joint.py`). Latent weights that are not
kept get gradients too, so that they may come back; what is kept is favoured by a factor that rises as a
cubic ramp ends (Zhu and Gupta 2017, arXiv:1710.01878) until nothing is exchanged any more.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from paredown.compressors.storage.stored import StoredTensor
from paredown.spaces.candidates.blueprint import Index
from paredown.spaces.candidates.zeros import BLOCK

_FROZEN_FROM = 0.7
"""Share of the steps after which the support stays, so that codes settle on it."""
_UNIT = BLOCK
"""Columns of a block, and of a group of 2:4."""


class Support(nn.Module):
    """The mask of a stored tensor; without one, nothing is ever pruned."""

    def __init__(self, tensor: StoredTensor) -> None:
        super().__init__()
        self._storage = tensor.storage
        self.register_buffer("_mask", None if tensor.mask is None else tensor.mask.clone())

    @property
    def mask(self) -> Tensor | None:
        """Boolean, of the tensor's shape; None where all is kept."""
        return self._buffers["_mask"]

    def rank(self, savings: Tensor, progress: float) -> None:
        """Keeps the weights of the largest savings, in the tensor's own pattern.

        Args:
            savings: What keeping each weight saves, of the tensor's shape.
            progress: Share of all steps that is done.
        """
        mask = self.mask
        if mask is None or progress >= _FROZEN_FROM:
            return
        favour = (1 - progress / _FROZEN_FROM) ** -3
        worth = torch.where(mask, savings.clamp_min(0) * favour, savings)
        axis = self._storage.axis
        kept = _kept(_matrix(worth, axis), _matrix(mask, axis), self._storage.index)
        mask.copy_(kept.view(mask.movedim(axis, 0).shape).movedim(0, axis))


def _matrix(x: Tensor, axis: int) -> Tensor:
    return x.movedim(axis, 0).flatten(1)


def _kept(worth: Tensor, mask: Tensor, index: Index) -> Tensor:
    """The mask (R, K) of the largest, as many as in `mask`; columns that fill no unit stay."""
    whole = worth.shape[1] // _UNIT * _UNIT
    units = worth[:, :whole].reshape(-1, _UNIT)
    found = torch.ones_like(mask)
    if index == "2:4":
        best = units.topk(2, dim=1).indices
        chosen = torch.zeros_like(units, dtype=torch.bool).scatter_(1, best, True)
    elif index == "block":
        blocks = int(mask[:, :whole].sum()) // _UNIT
        chosen = _largest(units.sum(dim=1), blocks).repeat_interleave(_UNIT)
    else:
        return _largest(worth.flatten(), int(mask.sum())).view_as(mask)
    found[:, :whole] = chosen.view(len(worth), whole)
    return found


def _largest(worth: Tensor, count: int) -> Tensor:
    best = worth.argsort(descending=True, stable=True)[:count]
    return torch.zeros_like(worth, dtype=torch.bool).index_fill_(0, best, True)
