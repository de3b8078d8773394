"""The database of compressed layers of one model: built lazily, kept packed, shared on disk.

An entry is found by (layer, choice, widths that touch the layer), so that a candidate is assembled by
picking one entry a layer. On disk it is found by everything it was made from, the solvers' own code
included, so that other processes and later runs find it too and a stale one is never read.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from paredown.compressors.layers.narrowed import NarrowedLayer, Narrowing
from paredown.compressors.layers.packed import pack, unpack
from paredown.compressors.layers.solution import Solution, solve, unchanged
from paredown.compressors.matrix.algebra import centred_gram, damage, to_matrix
from paredown.compressors.matrix.recent import Recent
from paredown.compressors.pruning.narrow import (
    Consumer,
    channel_order,
    columns_of_channels,
    in_units_of_loss,
)
from paredown.compressors.pruning.paths import Paths
from paredown.compressors.statistics.layer_statistics import LayerStatistics
from paredown.compressors.statistics.ranges import Range
from paredown.compressors.storage.shelf import Record, Shelf, code_version, digest
from paredown.compressors.storage.stored import CPU
from paredown.spaces.candidates.candidate import LayerChoice
from paredown.spaces.structure.model_map import ChannelGroup, Layer, ModelMap
from paredown.spaces.structure.slicing import kept_positions

_OBJECTS_BYTES = 1_200
"""What a packed tensor's objects take beside its values: much the most of it in small layers."""
_Place = tuple[str, tuple[tuple[str, int], ...]]
"""A layer, and the widths that touch it."""
_Key = tuple[_Place, LayerChoice]


class Database:
    """Solutions of every layer and choice asked for so far; the last layer's workspace stays.

    Args:
        model_map: Of the captured model.
        tensors: Its tensors, batch norms folded.
        statistics: By layer name.
        ranges: By value name, for 8-bit activations.
        capacity_bytes: Packed solutions beyond this are forgotten, least recently used first.
        shelf: Where solutions are kept on disk, for other processes and later runs, if at all.
        device: Where layers are solved and what is asked for lies. Tensors and statistics are given on
            the CPU and moved when first used; packed solutions and numbers of channels stay there.
    """

    def __init__(
        self,
        model_map: ModelMap,
        tensors: Mapping[str, Tensor],
        statistics: Mapping[str, LayerStatistics],
        ranges: Mapping[str, Range],
        capacity_bytes: int = 2**30,
        shelf: Shelf | None = None,
        device: torch.device = CPU,
    ) -> None:
        self.model_map = model_map
        self.device = device
        self.ranges = ranges
        self._tensors = tensors
        self._statistics = statistics
        self.shelf = shelf
        self._capacity_bytes = capacity_bytes
        self._entries: OrderedDict[_Key, Record] = OrderedDict()
        self._origins: dict[str, str] = {}
        self._orders: dict[str, Tensor] = {}
        self._paths = Paths()
        self._workspaces: Recent[_Place, NarrowedLayer] = Recent(1)
        self.held_bytes = 0
        self.solved = 0

    def __getstate__(self) -> dict[str, Any]:
        """Without what is made again, and without entries that are on disk: a worker reads its own."""
        state = {n: v for n, v in self.__dict__.items() if n not in ("tensors", "statistics")}
        state |= {"_paths": Paths(), "_workspaces": Recent(1)}
        if self.shelf is not None:
            state |= {"_entries": OrderedDict(), "held_bytes": 0}
        return state

    @functools.cached_property
    def tensors(self) -> Mapping[str, Tensor]:
        """The model's tensors on `device`."""
        return {name: tensor.to(self.device) for name, tensor in self._tensors.items()}

    @functools.cached_property
    def statistics(self) -> Mapping[str, LayerStatistics]:
        """By layer name, on `device`."""
        return {name: found.to(self.device) for name, found in self._statistics.items()}

    def solution(self, layer: Layer, choice: LayerChoice, widths: Mapping[str, int]) -> Solution:
        """The layer under `choice` when the groups in `widths` keep only so many channels.

        The same tensors bit for bit, whether just solved or read back.
        """
        narrowing = self._narrowing(layer, widths)
        if choice.is_identity and narrowing.is_whole:
            return unchanged(layer, *self._weight_and_bias(layer))
        entry = self._entry(layer, choice, widths, wait=True)
        assert entry is not None
        return self._restored(entry, layer, narrowing)

    def solve(
        self, asked: Sequence[tuple[Layer, LayerChoice]], widths: Mapping[str, int], *, wait: bool
    ) -> None:
        """Solve what is missing, the largest layers first.

        What another process is solving is passed over, so that processes which are asked for the same
        share the work; with `wait` it is there in the end.
        """
        missing = [
            (layer, choice)
            for layer, choice in sorted(asked, key=lambda each: -each[0].weight_count)
            if not (choice.is_identity and self._narrowing(layer, widths).is_whole)
        ]
        for waits in (False, True) if wait else (False,):
            missing = [e for e in missing if self._entry(*e, widths, wait=waits) is None]

    def damage(self, layer: Layer, choice: LayerChoice, widths: Mapping[str, int]) -> float:
        """Predicted increase of the mean loss when only this layer is compressed (K-FAC).

        Outputs that are removed count in the layers that miss them.

        Raises:
            ValueError: Statistics were collected without a loss.
        """
        statistics = self.statistics[layer.name]
        if statistics.gradient_gram is None:
            raise ValueError("damage needs statistics collected with a loss")
        solution = self.solution(layer, choice, widths)
        narrowing = self._narrowing(layer, widths)
        dense = to_matrix(self.tensors[layer.weight], layer)
        if layer.kind == "embedding" and narrowing.channels is not None:
            kept = narrowing.channels
            change, gram = (solution.matrix - dense)[:, kept], statistics.gram[kept][:, kept]
            return damage(change, gram, statistics.gradient_gram)
        # A bias takes what moves an output's mean, in the solvers and here.
        centred = centred_gram(statistics.gram, statistics.input_mean)
        rows = slice(None) if narrowing.rows is None else narrowing.rows
        change = torch.zeros_like(dense)
        change[rows] = solution.matrix - dense[rows]
        gram = statistics.gram if layer.bias is None else centred
        return damage(change, gram, statistics.gradient_gram)

    def output_moments(self, layer: Layer, widths: Mapping[str, int]) -> tuple[Tensor, Tensor]:
        """Standard deviation and mean of the dense layer's outputs that are kept."""
        statistics = self.statistics[layer.name]
        rows = self._narrowing(layer, widths).rows
        if rows is None:
            return statistics.output_std, statistics.output_mean
        return statistics.output_std[rows], statistics.output_mean[rows]

    def kept_rows(self, layer: Layer, widths: Mapping[str, int]) -> Tensor | None:
        """Numbers of the layer's output channels that stay; None where all do."""
        return self._narrowing(layer, widths).rows

    def kept_channels(self, group: str, width: int) -> Tensor:
        """Channel numbers, ascending, that stay when `group` keeps `width` of its channels."""
        if group not in self._orders:
            self._orders[group] = self._kept_order(group)
        return self._orders[group][:width].sort().values

    def keep(self, widths: Mapping[str, int]) -> dict[str, Tensor]:
        """Kept channels of every group in `widths`."""
        return {group: self.kept_channels(group, width) for group, width in widths.items()}

    def _relevant(self, layer: Layer, widths: Mapping[str, int]) -> dict[str, int]:
        """The widths of groups that touch the layer, sorted."""
        touching = {
            part.group
            for axis in (layer.row_axis, layer.column_axis)
            for part in self.model_map.tensor_parts.get((layer.weight, axis), ())
        }
        return {group: widths[group] for group in sorted(widths) if group in touching}

    def _narrowing(self, layer: Layer, widths: Mapping[str, int]) -> Narrowing:
        keep = self.keep(self._relevant(layer, widths))

        def _positions(axis: int) -> Tensor | None:
            parts = self.model_map.tensor_parts.get((layer.weight, axis), ())
            if not any(part.group in keep for part in parts):
                return None
            return kept_positions(parts, keep)

        return Narrowing(
            rows=_positions(layer.row_axis),
            channels=_positions(layer.column_axis) if layer.groups == 1 else None,
        )

    def _entry(
        self, layer: Layer, choice: LayerChoice, widths: Mapping[str, int], *, wait: bool
    ) -> Record | None:
        """From memory, from disk, or solved now; None where another process solves it, without `wait`."""
        place = (layer.name, tuple(self._relevant(layer, widths).items()))
        narrowing, key = self._narrowing(layer, widths), (place, choice)
        if key in self._entries:
            self._entries.move_to_end(key)
            return self._entries[key]

        def _solved() -> Record:
            self.solved += 1
            narrowed = self._workspaces.get(place, lambda: self._narrowed(layer, narrowing))
            return pack(solve(narrowed, choice))

        if self.shelf is None:
            entry: Record | None = _solved()
        else:
            name = digest(self._origin(layer), repr(choice), narrowing.text)
            entry = self.shelf.make(name, _solved, wait=wait)
        if entry is not None:
            self._remember(key, entry)
        return entry

    def _weight_and_bias(self, layer: Layer) -> tuple[Tensor, Tensor | None]:
        bias = None if layer.bias is None else self.tensors[layer.bias]
        return self.tensors[layer.weight], bias

    def _narrowed(self, layer: Layer, narrowing: Narrowing) -> NarrowedLayer:
        weight, bias = self._weight_and_bias(layer)
        statistics = self.statistics[layer.name]
        return NarrowedLayer.of(layer, weight, bias, statistics, narrowing, self._paths)

    def _restored(self, entry: Record, layer: Layer, narrowing: Narrowing) -> Solution:
        width = to_matrix(self.tensors[layer.weight], layer).shape[1]
        columns = None
        if narrowing.channels is not None:
            per_channel = width // layer.weight_shape[layer.column_axis]
            steps = torch.arange(per_channel)
            columns = (narrowing.channels[:, None] * per_channel + steps).flatten()
        return unpack(entry, layer, columns, width, self.device)

    def _origin(self, layer: Layer) -> str:
        """Stands for all that the layer's solutions are made from, save choice and widths."""
        if layer.name not in self._origins:
            shape = (layer.kind, layer.weight_shape, layer.out_axis, layer.in_axis, layer.groups)
            bias = "" if layer.bias is None else self.tensors[layer.bias]
            weight = self.tensors[layer.weight]
            statistics = self._statistics[layer.name].digest
            self._origins[layer.name] = digest(
                code_version(), self.device.type, repr(shape), weight, bias, statistics
            )
        return self._origins[layer.name]

    def _kept_order(self, group: str) -> Tensor:
        """Channels of a group, most important first, from disk or found now."""
        record = next(g for g in self.model_map.groups if g.name == group)
        readers = [self.model_map.layer_by_name[name] for name in record.consumers]
        readers = [r for r in readers if r.groups == 1 and r.kind != "embedding"]
        if not readers:
            return torch.arange(record.channels)
        if self.shelf is None:
            return self._order(record, readers)
        parts = [repr(self.model_map.tensor_parts[r.weight, r.in_axis]) for r in readers]
        name = digest("order", group, *map(self._origin, readers), *parts)
        order = self.shelf.make(
            name, lambda: Record(tensors={"order": self._order(record, readers)}, facts={})
        )
        assert order is not None
        return order.tensors["order"]

    def _order(self, group: ChannelGroup, readers: Sequence[Layer]) -> Tensor:
        return channel_order([self._consumer(r, group.name, group.channels) for r in readers])

    def _consumer(self, layer: Layer, group: str, channels: int) -> Consumer:
        """The consumer's matrix, weighted by the loss where its curvature is known."""
        statistics = self.statistics[layer.name]
        matrix = to_matrix(self.tensors[layer.weight], layer)
        matrix = in_units_of_loss(matrix, statistics.gradient_gram)
        parts = self.model_map.tensor_parts[layer.weight, layer.in_axis]
        per_channel = matrix.shape[1] // layer.weight_shape[layer.in_axis]
        columns = columns_of_channels(parts, group, channels, per_channel)
        return matrix, statistics.gram, columns

    def _remember(self, key: _Key, entry: Record) -> None:
        self._entries[key] = entry
        self.held_bytes += _held(entry)
        while self.held_bytes > self._capacity_bytes and len(self._entries) > 1:
            _, oldest = self._entries.popitem(last=False)
            self.held_bytes -= _held(oldest)


def _held(entry: Record) -> int:
    return entry.nbytes + _OBJECTS_BYTES * len(entry.tensors)
