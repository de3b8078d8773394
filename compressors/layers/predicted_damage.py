"""Damage of choices, widths and silenced layers predicted from statistics, before anything is solved.

Predictions are for putting candidates in order: of (layer, choice) pairs they rank nearly as the solved
damages do, and are within a factor of two of nearly all (`tests/compressors/layers`).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import torch
from torch import Tensor

from paredown.compressors.layers.database import Database
from paredown.compressors.layers.expected_errors import (
    SampledRows,
    by_row,
    compensated_share,
    inverse,
    removed,
    rounding_errors,
    variance_left,
)
from paredown.compressors.layers.methods import row_shares
from paredown.compressors.low_rank.factorizing import discarded_energy, reading_energy
from paredown.compressors.matrix.algebra import centred_gram, damage, times_gram, to_matrix
from paredown.compressors.matrix.recent import Recent
from paredown.compressors.pruning.narrow import columns_of_channels
from paredown.compressors.statistics.layer_statistics import LayerStatistics
from paredown.spaces.candidates.candidate import LayerChoice, Method
from paredown.spaces.candidates.factors import Chain, factor_chain, form_of
from paredown.spaces.candidates.scale_groups import effective_size
from paredown.spaces.candidates.zeros import Zeros
from paredown.spaces.structure.model_map import Layer

_PLAIN: tuple[Method, ...] = ("rtn", "laq")
"""Methods that compensate nothing."""


class DamagePredictor:
    """Predicts increases of the mean loss, in its unit, for the layers and groups of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._layers: dict[str, _Layer] = {}

    def layer(self, layer: Layer, choice: LayerChoice) -> float:
        """Damage of one layer's choice where all widths are whole.

        Raises:
            SolverError: Weights or statistics hold NaN or infinity.
        """
        return 0.0 if choice.is_identity else self._of(layer).damage(choice)

    def widths(self, group: str) -> Tensor:
        """Damage (channels + 1,) of a group that keeps 0, 1, ... of its channels.

        Those whose readers miss them least go first. No order is found for it.
        """
        model_map = self._database.model_map
        record = next(each for each in model_map.groups if each.name == group)
        alone, given_others = torch.zeros(2, record.channels)
        for name in record.consumers:
            layer = model_map.layer_by_name[name]
            if layer.groups > 1 or layer.kind == "embedding":
                continue
            own = self._of(layer)
            parts = model_map.tensor_parts[layer.weight, layer.in_axis]
            per_channel = own.matrix.shape[1] // layer.weight_shape[layer.in_axis]
            columns = columns_of_channels(parts, group, record.channels, per_channel)
            costs = own.channel_costs(columns)
            alone, given_others = alone + costs[0].cpu(), given_others + costs[1].cpu()
        return _by_width(alone, given_others)

    def silenced(self, layer: Layer) -> float:
        """Damage where the layer's outputs stay at their means.

        Far too large a change for a quadratic: right in order of size at best.
        """
        own = self._of(layer)
        gram = centred_gram(own.statistics.gram, own.statistics.input_mean)
        return damage(-own.matrix, gram, own.gradient_gram)

    def _of(self, layer: Layer) -> _Layer:
        if layer.name not in self._layers:
            statistics = self._database.statistics[layer.name]
            matrix = to_matrix(self._database.tensors[layer.weight], layer)
            self._layers[layer.name] = _Layer(layer, matrix, statistics)
        return self._layers[layer.name]


def _by_width(alone: Tensor, given_others: Tensor) -> Tensor:
    """Damage (C + 1,) of keeping 0, 1, ... channels, by each one's costs (C,).

    The more are gone, the fewer are left to make up for one: its cost moves from that given all others to
    that given none, geometrically.
    """
    count = len(alone)
    order = given_others.argsort()
    few, none = given_others[order].clamp_min(0.0), alone[order].clamp_min(0.0)
    share = torch.arange(count + 1) / count
    tiny = torch.finfo(few.dtype).tiny
    logs = (few.clamp_min(tiny).log(), none.clamp_min(tiny).log())
    costs = torch.exp(logs[0] + share.unsqueeze(1) * (logs[1] - logs[0]))
    totals = torch.where(few > 0, costs, 0.0).cumsum(dim=1)
    gone = torch.arange(1, count + 1)
    return torch.cat([totals[gone, gone - 1].flip(0), torch.zeros(1)])


@dataclass(frozen=True, eq=False)
class _Layer:
    """One layer's matrix (R, K) and statistics; what its choices share is small, and is kept."""

    layer: Layer
    matrix: Tensor
    statistics: LayerStatistics
    _gone: Recent[tuple[Method, Zeros], tuple[Tensor, float]] = field(
        default_factory=lambda: Recent(4)
    )

    @property
    def gram(self) -> Tensor:
        """What errors count under: a bias takes what moves an output's mean."""
        gram = self.statistics.gram
        return gram if self.layer.bias is None else centred_gram(gram, self.statistics.input_mean)

    @property
    def gradient_gram(self) -> Tensor:
        """The loss's curvature (R, R), or its diagonal (R,)."""
        assert self.statistics.gradient_gram is not None, (
            "a search collects statistics with a loss"
        )
        return self.statistics.gradient_gram

    @functools.cached_property
    def curvature(self) -> Tensor:
        """The loss's curvature (R,) by each output."""
        known = self.gradient_gram
        return (known if known.ndim == 1 else known.diagonal()).clamp_min(0.0)

    @functools.cached_property
    def sample(self) -> SampledRows:
        """Rows that stand for all."""
        return SampledRows.of(self.matrix, self.curvature)

    def damage(self, choice: LayerChoice) -> float:
        """Of a choice other than the identity."""
        chain = factor_chain(self.layer, self.layer.weight_shape, choice.rank)
        total = 0.0 if len(chain) == 1 else self._factorized(chain, choice)
        kept, pruned = self._pruned(choice)
        if choice.weight_bits < 32:
            size = effective_size(self.matrix.shape[1], choice.group_size)
            errors = rounding_errors(kept, choice.weight_bits, size)
            rounded = 0.5 * self.sample.sum(errors * self._of_sample(self._squares))
            # Every factor is rounded, and errs by about the same share of the outputs.
            total += rounded * len(chain) * self._left_by(choice.method)
        return total + pruned * len(chain)

    def channel_costs(self, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Damage (C,) of removing each channel where no other input, and where all others, make up.

        Args:
            columns: Of each channel, (C, m).
        """
        columns = columns.to(self.matrix.device)
        weight = self.matrix.float()
        # Rows lose a channel together: what lies off the diagonal of their curvature counts.
        known = self.gradient_gram.float()
        weighed = known.unsqueeze(1) * weight if known.ndim == 1 else known @ weight
        parts, pull = (each[:, columns].permute(1, 2, 0) for each in (weight, weighed))
        square = (columns.unsqueeze(2), columns.unsqueeze(1))
        own, left = self.gram[square].float(), inverse(self.gram)[0][square]
        alone = 0.5 * ((own @ parts) * pull).sum(dim=(1, 2))
        given = 0.5 * (torch.linalg.solve(left, parts) * pull).sum(dim=(1, 2))
        return alone, torch.minimum(given, alone)

    @functools.cached_property
    def _squares(self) -> Tensor:
        """Mean squares of the inputs, (groups, K) or (K,)."""
        gram = self.gram
        return (gram if gram.ndim == 1 else gram.diagonal(dim1=-2, dim2=-1)).float()

    @functools.cached_property
    def _variance_left(self) -> Tensor:
        return variance_left(self.gram)

    @functools.cached_property
    def _compensated_share(self) -> float:
        return compensated_share(self.gram)

    def _of_sample(self, inputs: Tensor) -> Tensor:
        return by_row(inputs, len(self.matrix))[self.sample.numbers]

    def _left_by(self, method: Method) -> float:
        return 1.0 if method in _PLAIN else self._compensated_share

    def _pruned(self, choice: LayerChoice) -> tuple[Tensor, float]:
        """The sampled rows with zeros, and what the zeros cost."""
        zeros = choice.zeros
        if zeros.pattern == "dense" or not zeros.share:
            return self.sample.rows, 0.0
        # All that compensate choose alike.
        method = choice.method if choice.method in _PLAIN else "gptq"
        return self._gone.get((method, zeros), lambda: self._prune(method, zeros))

    def _prune(self, method: Method, zeros: Zeros) -> tuple[Tensor, float]:
        squares = self.sample.rows.square()
        variance = self._of_sample(self._squares)
        scores = squares
        if method != "rtn":
            few = self._of_sample(self._variance_left) if method == "gptq" else variance
            scores = squares * few * self._row_shares
            # The more weights are gone, the fewer are left to make up for one.
            variance = few.clamp_min(1e-30) ** (1 - zeros.share) * variance**zeros.share
        gone = removed(scores, self.sample.count, zeros)
        cost = 0.5 * self.sample.sum(torch.where(gone, squares * variance, 0.0))
        return self.sample.rows.masked_fill(gone, 0.0), cost

    @property
    def _row_shares(self) -> Tensor:
        """Of the sampled rows, (n, 1)."""
        if not bool((self.curvature > 0).any()):
            return self.sample.count.new_ones(len(self.sample.count), 1)
        return row_shares(self.curvature)[self.sample.numbers].float().unsqueeze(1)

    def _factorized(self, chain: Chain, choice: LayerChoice) -> float:
        """Damage of the ranks that are given up, all factors in float."""
        shape = self.layer.weight_shape
        form = form_of(self.layer, choice.rank.form)
        if form == "channel":
            return float(self._tail[chain[0].shape[0]])
        inputs, *kernel = shape[1:]
        width = inputs * kernel[0] if form == "spatial" else inputs
        lost = float(self._read(width)[chain[0].shape[0]])
        if form == "tucker":
            lost += float(self._written[chain[1].shape[0]])
        return 0.5 * self._mean_curvature * lost

    @functools.cached_property
    def _tail(self) -> Tensor:
        """Damage left at each rank of the best factors."""
        wide = self.matrix.double()
        gram = self.gram
        if len(wide) <= wide.shape[1]:
            energy, vectors = torch.linalg.eigh(times_gram(wide, gram) @ wide.t())
            outputs = vectors * energy.clamp_min(0.0).sqrt()
        else:
            values, basis = torch.linalg.eigh(gram)
            read = (wide @ basis) * values.clamp_min(0.0).sqrt()
            outputs = read @ torch.linalg.eigh(read.t() @ read)[1]
        known = self.gradient_gram
        weighed = known.unsqueeze(1) * outputs if known.ndim == 1 else known @ outputs
        harm = 0.5 * (weighed * outputs).sum(dim=0).clamp_min(0.0)
        return torch.cat([harm.new_zeros(1), harm.cumsum(0)]).flip(0)

    @functools.cached_property
    def _mean_curvature(self) -> float:
        """Mean over outputs, weighed by their energy."""
        wide = self.matrix.double()
        energy = (times_gram(wide, self.gram) * wide).sum(dim=1).clamp_min(0.0)
        return float(self.curvature.double() @ energy / energy.sum().clamp_min(1e-30))

    @functools.cached_property
    def _written(self) -> Tensor:
        return discarded_energy(self.matrix, self.gram)

    @functools.cached_property
    def _reads(self) -> Recent[int, Tensor]:
        return Recent(2)

    def _read(self, width: int) -> Tensor:
        """Energy lost at each rank of a first factor that reads so many inputs."""
        return self._reads.get(width, lambda: reading_energy(self.matrix, self.gram, width))
