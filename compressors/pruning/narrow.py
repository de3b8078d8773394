"""Channels that go entirely: which ones, and how the layers that read them make up for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from paredown.compressors.matrix.algebra import damped_cholesky, is_root, power_of_two
from paredown.spaces.channels.parts import Part

Consumer = tuple[Tensor, Tensor, Tensor]
"""A layer that reads the channels: weight (R, K), gram (K, K), columns of each channel (C, m)."""

_POOL = 4
"""One in so many channels, the cheapest, are compared with each other in a round; half of them go."""
_LEAST_POOL = 48
"""Channels up to which all that are left are compared."""
_ROOT_DAMPING = 1e-6
"""Share of the mean curvature added to the loss's curvature before its root is taken."""
_MOST_VALUES, _SUMS = 2**26, 64
"""Values of a weight from which random sums of its rows stand for them, and how many."""


def channel_order(consumers: Sequence[Consumer]) -> Tensor:
    """Channel numbers (C,), most important first, so that every width keeps a prefix.

    Structured OBS (ZipLM: Kurtic et al. 2023, arXiv:2302.04089): the channel whose removal costs
    the consumers least, after optimal compensation, goes first. Scores are mean squared output
    errors summed over consumers; to weigh consumers by the loss, pass weights `in_units_of_loss`.

    Weights and inverse Grams are updated for many channels in one product, which then takes the time of
    inverting the Gram once, while one by one it is bound by reading it C times. The channels of such a
    batch are still found one by one, among the cheapest of all, so that of two that stand in for each
    other only one goes. Half of the channels removed so leave an error at most 2 % above that of
    the order in which every score is taken anew (`tests/compressors/pruning/test_narrow.py`).
    """
    states = [_State.of(*consumer) for consumer in consumers]
    left = torch.arange(len(consumers[0][2]))
    removed: list[Tensor] = []
    while len(left):
        scores = torch.stack([state.scores() for state in states]).sum(dim=0).cpu()
        pool = scores.argsort(stable=True)[: max(_LEAST_POOL, len(left) // _POOL)]
        count = len(pool) // 2 if len(pool) < len(left) else len(left)
        gone = pool[_cheapest([state.within(pool) for state in states], count)]
        removed.append(left[gone])
        is_left = torch.ones(len(left), dtype=torch.bool).index_fill_(0, gone, False)
        if count < len(left):
            states = [state.without(gone, is_left) for state in states]
        left = left[is_left]
    return torch.cat(removed).flip(0)


def in_units_of_loss(weight: Tensor, curvature: Tensor | None) -> Tensor:
    """root(curvature)^T @ weight, float64: mean squared outputs are then twice the loss they cost.

    Args:
        weight: (R, K). Of one with more than 67 million values it is 64 random sums of those rows,
            whose mean squares are the same on average.
        curvature: The loss's by the outputs (R, R), or its diagonal (R,); None weighs outputs alike.
    """
    rows = len(weight)
    if curvature is None:
        root = torch.eye(rows, dtype=torch.float64, device=weight.device)
    elif curvature.ndim == 1:
        return curvature.sqrt().unsqueeze(1) * weight.double()
    else:
        # Any root will do, and this one takes a tenth of the time of the eigenvectors'.
        root = damped_cholesky(curvature.unsqueeze(0), _ROOT_DAMPING)[0].t()
        root = root * (curvature.diagonal() > 0)
    if weight.numel() > _MOST_VALUES:
        generator = torch.Generator().manual_seed(0)
        signs = torch.randint(2, (_SUMS, rows), generator=generator).to(root) * 2 - 1
        return ((signs @ root / _SUMS**0.5).float() @ weight.float()).double()
    return root @ weight.double()


def refit_columns(weight: Tensor, gram: Tensor, kept_columns: Tensor) -> Tensor:
    """The weight (R, kept) on the kept columns that keeps the layer's outputs best.

    Least squares with a pull towards the plain slice, W_S + W_rest G[rest, S] (G[S, S] +
    damping)^-1: its error under `gram` (K, K) is at most the slice's, for any damping.
    """
    wide = weight.double()
    gone = wide.clone()
    gone[:, kept_columns] = 0.0
    if is_root(gram):
        # The same by the kernel of the positions, which are fewer than the columns.
        root = gram.double()
        kept = root[:, kept_columns]
        factor = damped_cholesky((kept @ kept.t()).unsqueeze(0))[0]
        change = torch.cholesky_solve(root @ gone.t(), factor).t() @ kept
        return (wide[:, kept_columns] + change).to(weight.dtype)
    factor = damped_cholesky(gram[kept_columns][:, kept_columns].unsqueeze(0))[0]
    missing = gone @ gram[:, kept_columns]
    refit = wide[:, kept_columns] + torch.cholesky_solve(missing.t(), factor).t()
    return refit.to(weight.dtype)


@dataclass(frozen=True, kw_only=True)
class _State:
    """One consumer's weight (R, K) and inverse Gram (K, K) on the channels that are left.

    Both float32 in units of their own, with which scores are multiplied. Channel by channel `each`
    columns lie together.
    """

    weight: Tensor
    inverse: Tensor
    each: int
    unit: float

    @classmethod
    def of(cls, weight: Tensor, gram: Tensor, columns: Tensor) -> _State:
        """Of a weight (R, K) with the Gram (K, K) of its inputs; `columns` (C, m) are each channel's."""
        if is_root(gram):
            weight, gram, columns = _by_contributions(weight, gram, columns)
        own = columns.to(weight.device).flatten()
        inverse = torch.cholesky_inverse(damped_cholesky(gram.double().unsqueeze(0)))[0]
        inverse = inverse[own][:, own]
        # A dead input is free, whatever its weights.
        weight = (weight.double() * (gram.diagonal() > 0))[:, own]
        if len(weight) > weight.shape[1]:
            weight = torch.linalg.qr(weight, mode="r").R  # with the same products of columns
        size, pace = float(power_of_two(weight.flatten())), float(power_of_two(inverse.diagonal()))
        return cls(
            weight=(weight / size).float(),
            inverse=(inverse / pace).float(),
            each=columns.shape[1],
            unit=size * size / pace,
        )

    def scores(self) -> Tensor:
        """Error (C,) of removing each channel now: sum over rows of w_S [H^-1]_SS^-1 w_S."""
        parts = self.weight.t().reshape(-1, self.each, len(self.weight))
        return self.unit * _scores(parts @ parts.transpose(1, 2), _own(self.inverse, self.each))

    def within(self, channels: Tensor) -> _Pool:
        """These channels by themselves, as the others are now."""
        own = self._columns(channels)
        weight = self.weight[:, own].double()
        return _Pool(
            products=weight.t() @ weight,
            inverse=self.inverse[own][:, own].double(),
            each=self.each,
            unit=self.unit,
        )

    def without(self, gone: Tensor, is_left: Tensor) -> _State:
        """The channels `is_left` (C,), which make up for those that are `gone`."""
        own, left = self._columns(gone), self._columns(is_left.nonzero().flatten())
        rows = self.inverse[own]
        solved = torch.linalg.solve(rows[:, own].double(), rows[:, left].double()).float()
        return replace(
            self,
            weight=self.weight[:, left].addmm_(self.weight[:, own], solved, alpha=-1),
            inverse=self.inverse[left][:, left].addmm_(rows[:, left].t(), solved, alpha=-1),
        )

    def _columns(self, channels: Tensor) -> Tensor:
        steps = torch.arange(self.each)
        return (channels.unsqueeze(1) * self.each + steps).flatten().to(self.weight.device)


@dataclass(frozen=True, kw_only=True)
class _Pool:
    """Some channels of one consumer: products W^T W of their weights and the inverse Gram, (K, K)."""

    products: Tensor
    inverse: Tensor
    each: int
    unit: float

    def scores(self) -> Tensor:
        """Error (C,) of removing each channel now."""
        products, inverse = (_own(x, self.each) for x in (self.products, self.inverse))
        return self.unit * _scores(products, inverse)

    def remove_(self, channel: int) -> None:
        """Removes the channel and makes up for it in the weights that are left."""
        own = slice(channel * self.each, (channel + 1) * self.each)
        rows, seen = self.inverse[own].clone(), self.products[own].clone()
        solved = torch.linalg.solve(rows[:, own], rows)
        # W loses W_S X, so W^T W loses X^T V + V^T X - X^T V_S X of its rows V = W_S^T W.
        half = (seen - 0.5 * seen[:, own] @ solved).t() @ solved
        self.products.sub_(half).sub_(half.t())
        self.inverse.addmm_(rows.t(), solved, alpha=-1)
        # Exactly gone, and an identity block so that later scores stay solvable.
        for matrix in (self.products, self.inverse):
            matrix[own], matrix[:, own] = 0.0, 0.0
        self.inverse[own, own].diagonal().fill_(1.0)


def _cheapest(pools: Sequence[_Pool], count: int) -> list[int]:
    """Numbers of the `count` channels that go first, in turn, each score taken anew."""
    gone: list[int] = []
    for _ in range(count):
        scores = torch.stack([pool.scores() for pool in pools]).sum(dim=0).cpu()
        scores[gone] = torch.inf
        gone.append(int(scores.argmin()))
        for pool in pools:
            pool.remove_(gone[-1])
    return gone


def _by_contributions(weight: Tensor, root: Tensor, columns: Tensor) -> Consumer:
    """A consumer of one column a channel: what the channel gives to the outputs at the root's positions.

    Channels that are left can then make up for others by one factor each, not weight by weight.
    """
    own = columns.to(weight.device)
    parts = weight.float()[:, own].transpose(0, 1) @ root.float()[:, own].permute(1, 2, 0)
    given = parts.flatten(1)
    ones = weight.new_ones(1, len(columns))
    return ones, (given @ given.t()).double(), torch.arange(len(columns)).unsqueeze(1)


def _own(matrix: Tensor, each: int) -> Tensor:
    """Blocks (C, m, m) along the diagonal of (K, K)."""
    count = len(matrix) // each
    return matrix.reshape(count, each, count, each).diagonal(dim1=0, dim2=2).permute(2, 0, 1)


def _scores(products: Tensor, inverse: Tensor) -> Tensor:
    """tr([H^-1]_SS^-1 W_S^T W_S) of every block (C, m, m), in float64."""
    solved = torch.linalg.solve(inverse.double(), products.double())
    return solved.diagonal(dim1=1, dim2=2).sum(dim=1)


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
