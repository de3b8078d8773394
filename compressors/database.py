"""The database of compressed layers of one model: built lazily, kept in memory up to a limit.

An entry is found by (layer, choice, widths that touch the layer), so that a candidate is assembled by
picking one entry a layer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor

from paredown.compressors.matrix import damage, to_matrix
from paredown.compressors.narrow import Consumer, channel_order
from paredown.compressors.ranges import Range
from paredown.compressors.solution import Narrowing, Solution, solve
from paredown.compressors.statistics import LayerStatistics
from paredown.spaces.candidate import LayerChoice
from paredown.spaces.model_map import Layer, ModelMap, Part
from paredown.spaces.slicing import kept_positions

_Key = tuple[str, LayerChoice, tuple[tuple[str, int], ...]]


class Database:
    """Solutions of every layer and choice asked for so far.

    Args:
        model_map: Of the captured model.
        tensors: Its tensors, batch norms folded.
        statistics: By layer name.
        ranges: By value name, for 8-bit activations.
        capacity_bytes: Solutions beyond this are forgotten, least recently used first.
    """

    def __init__(
        self,
        model_map: ModelMap,
        tensors: Mapping[str, Tensor],
        statistics: Mapping[str, LayerStatistics],
        ranges: Mapping[str, Range],
        capacity_bytes: int = 2**30,
    ) -> None:
        self.model_map = model_map
        self.tensors = tensors
        self.statistics = statistics
        self.ranges = ranges
        self._capacity_bytes = capacity_bytes
        self._solutions: OrderedDict[_Key, Solution] = OrderedDict()
        self._orders: dict[str, Tensor] = {}
        self.held_bytes = 0

    def solution(self, layer: Layer, choice: LayerChoice, widths: Mapping[str, int]) -> Solution:
        """The layer under `choice` when the groups in `widths` keep only so many channels."""
        touching = {
            part.group
            for axis in (layer.out_axis, layer.in_axis)
            for part in self.model_map.tensor_parts.get((layer.weight, axis), ())
        }
        relevant = tuple(sorted((g, w) for g, w in widths.items() if g in touching))
        key = (layer.name, choice, relevant)
        if key in self._solutions:
            self._solutions.move_to_end(key)
            return self._solutions[key]
        found = solve(
            layer,
            self.tensors[layer.weight],
            None if layer.bias is None else self.tensors[layer.bias],
            self.statistics[layer.name],
            choice,
            self._narrowing(layer, dict(relevant)),
        )
        self._remember(key, found)
        return found

    def damage(self, layer: Layer, choice: LayerChoice, widths: Mapping[str, int]) -> float:
        """Predicted increase of the mean loss when only this layer is compressed (K-FAC).

        Outputs that are removed count where they are missed: in the layers that read them.

        Raises:
            ValueError: Statistics were collected without a loss.
        """
        statistics = self.statistics[layer.name]
        if statistics.gradient_gram is None:
            raise ValueError("damage needs statistics collected with a loss")
        dense = to_matrix(self.tensors[layer.weight], layer)
        changed = self.solution(layer, choice, widths).matrix
        rows = self._narrowing(layer, widths).rows
        delta = torch.zeros_like(dense)
        if rows is None:
            delta = changed - dense
        else:
            delta[rows] = changed - dense[rows]
        return damage(delta, statistics.gram, statistics.gradient_gram)

    def output_moments(self, layer: Layer, widths: Mapping[str, int]) -> tuple[Tensor, Tensor]:
        """Standard deviation and mean of the dense layer's outputs that are kept."""
        statistics = self.statistics[layer.name]
        rows = self._narrowing(layer, widths).rows
        if rows is None:
            return statistics.output_std, statistics.output_mean
        return statistics.output_std[rows], statistics.output_mean[rows]

    def kept_channels(self, group: str, width: int) -> Tensor:
        """Channel numbers, ascending, that stay when `group` keeps `width` of its channels."""
        if group not in self._orders:
            self._orders[group] = self._order(group)
        return self._orders[group][:width].sort().values

    def keep(self, widths: Mapping[str, int]) -> dict[str, Tensor]:
        """Kept channels of every group in `widths`."""
        return {group: self.kept_channels(group, width) for group, width in widths.items()}

    def _narrowing(self, layer: Layer, widths: Mapping[str, int]) -> Narrowing:
        keep = self.keep(widths)

        def positions(axis: int) -> Tensor | None:
            parts = self.model_map.tensor_parts.get((layer.weight, axis), ())
            if not any(part.group in keep for part in parts):
                return None
            return kept_positions(parts, keep)

        return Narrowing(
            rows=positions(layer.out_axis),
            channels=positions(layer.in_axis) if layer.groups == 1 else None,
        )

    def _order(self, group: str) -> Tensor:
        record = next(g for g in self.model_map.groups if g.name == group)
        consumers: list[Consumer] = []
        for name in record.consumers:
            layer = self.model_map.layer_by_name[name]
            if layer.groups == 1 and layer.kind != "embedding":
                consumers.append(self._consumer(layer, record.name, record.channels))
        if not consumers:
            return torch.arange(record.channels)
        return channel_order(consumers)

    def _consumer(self, layer: Layer, group: str, channels: int) -> Consumer:
        """The consumer's matrix, weighted by the loss where its curvature is known."""
        statistics = self.statistics[layer.name]
        matrix = to_matrix(self.tensors[layer.weight], layer).double()
        if statistics.gradient_gram is not None:
            values, vectors = torch.linalg.eigh(statistics.gradient_gram)
            matrix = (vectors * values.clamp_min(0).sqrt()).t() @ matrix
        parts = self.model_map.tensor_parts[layer.weight, layer.in_axis]
        per_channel = matrix.shape[1] // layer.weight_shape[layer.in_axis]
        columns = _columns_of_channels(parts, group, channels, per_channel)
        return matrix, statistics.gram, columns

    def _remember(self, key: _Key, solution: Solution) -> None:
        self._solutions[key] = solution
        self.held_bytes += solution.nbytes
        while self.held_bytes > self._capacity_bytes and len(self._solutions) > 1:
            _, oldest = self._solutions.popitem(last=False)
            self.held_bytes -= oldest.nbytes


def _columns_of_channels(
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
