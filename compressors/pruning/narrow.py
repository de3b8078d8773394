"""Channels that go entirely: which ones, and how the layers that read them make up for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paredown.compressors.matrix.algebra import damped_cholesky
from paredown.spaces.channels.parts import Part

Consumer = tuple[Tensor, Tensor, Tensor]
"""A layer that reads the channels: weight (R, K), gram (K, K), columns of each channel (C, m)."""


def channel_order(consumers: Sequence[Consumer]) -> Tensor:
    """Channel numbers (C,), most important first, so that every width keeps a prefix.

    Structured OBS (ZipLM: Kurtic et al. 2023, arXiv:2302.04089): the channel whose removal costs
    the consumers least, after optimal compensation, goes first; weights and inverse Grams are
    updated and the scores taken anew. Scores are mean squared output errors summed over consumers;
    to weigh consumers by the loss, pass root(gradient_gram)^T @ weight.
    """
    states = [_State.of(*consumer) for consumer in consumers]
    count = len(consumers[0][2])
    is_left = torch.ones(count, dtype=torch.bool)
    removed: list[int] = []
    for _ in range(count):
        scores = torch.stack([state.scores() for state in states]).sum(dim=0).cpu()
        channel = int(torch.where(is_left, scores, torch.inf).argmin())
        is_left[channel] = False
        removed.append(channel)
        for state in states:
            state.remove_(channel)
    return torch.tensor(removed[::-1])


def refit_columns(weight: Tensor, gram: Tensor, kept_columns: Tensor) -> Tensor:
    """The weight (R, kept) on the kept columns that keeps the layer's outputs best.

    Least squares with a pull towards the plain slice, W_S + W_rest G[rest, S] (G[S, S] +
    damping)^-1: its error under `gram` (K, K) is at most the slice's, for any damping.
    """
    wide = weight.double()
    gone = wide.clone()
    gone[:, kept_columns] = 0.0
    factor = damped_cholesky(gram[kept_columns][:, kept_columns].unsqueeze(0))[0]
    missing = gone @ gram[:, kept_columns]
    refit = wide[:, kept_columns] + torch.cholesky_solve(missing.t(), factor).t()
    return refit.to(weight.dtype)


@dataclass
class _State:
    """One consumer's weight and inverse Gram while channels are removed."""

    weight: Tensor
    inverse: Tensor
    columns: Tensor

    @classmethod
    def of(cls, weight: Tensor, gram: Tensor, columns: Tensor) -> _State:
        """Of a weight (R, K) with the Gram (K, K) of its inputs; `columns` (C, n) are each channel's."""
        inverse = torch.cholesky_inverse(damped_cholesky(gram.double().unsqueeze(0)))[0]
        return cls(weight.double().clone(), inverse, columns.to(weight.device))

    def scores(self) -> Tensor:
        """Error (C,) of removing each channel now: sum over rows of w_S [H^-1]_SS^-1 w_S."""
        blocks = self.inverse[self.columns.unsqueeze(2), self.columns.unsqueeze(1)]
        parts = self.weight[:, self.columns].permute(1, 2, 0)
        return (parts * torch.linalg.solve(blocks, parts)).sum(dim=(1, 2))

    def remove_(self, channel: int) -> None:
        """Removes the channel and makes up for it in the weights that are left."""
        own = self.columns[channel]
        rows = self.inverse[own]
        solved = torch.linalg.solve(rows[:, own], rows)
        # In place: a product of its own, as large as the Gram, took as long as computing it.
        self.weight.addmm_(self.weight[:, own], solved, alpha=-1)
        self.inverse.addmm_(rows.t(), solved, alpha=-1)
        # Exactly gone, and an identity block so that later scores stay solvable.
        self.weight[:, own] = 0.0
        self.inverse[own] = 0.0
        self.inverse[:, own] = 0.0
        self.inverse[own, own] = 1.0


def columns_of_channels(
    parts: tuple[Part, ...], group: str, channels: int, per_channel: int
) -> Tensor:
    """Matrix columns (channels, m) that read each channel of `group`."""
    found: list[Tensor] = []
    start = 0
    for part in parts:
        if part.group == group:
            first = start + torch.arange(channels) * part.repeat
            columns = first[:, None] * per_channel + torch.arange(part.repeat * per_channel)
            found.append(columns)
        start += part.channels * part.repeat
    return torch.cat(found, dim=1)
