"""Which channels must shrink together: a union-find over groups, with reasons to freeze them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from paredown.spaces.graph.graph import Graph
from paredown.spaces.structure.model_map import Layer, Part

Parts = tuple[Part, ...]


@dataclass(frozen=True)
class Layout:
    """Where a value carries channels that may shrink: its dimension `dim`, run by run."""

    dim: int
    parts: Parts

    @property
    def size(self) -> int:
        """Entries along `dim`, repeats counted."""
        return size_of(self.parts)


class Ties:
    """Everything learnt about channels while walking the graph.

    A value without an entry in `layouts` has nothing that may shrink. Group names are provisional:
    `settled` maps parts to the final ones, with None for frozen groups.
    """

    def __init__(
        self, graph: Graph, tensors: Mapping[str, Tensor], layers: Mapping[str, Layer]
    ) -> None:
        self.graph = graph
        self.tensors = tensors
        self.layers = layers
        self.layouts: dict[str, Layout] = {}
        self.tensor_parts: dict[tuple[str, int], Parts] = {}
        self._parent: dict[str, str] = {}
        self._reasons: dict[str, str] = {}

    def open(self, name: str) -> None:
        """Starts a group, if it is not there yet; groups keep the name of the one opened first."""
        self._parent.setdefault(name, name)

    def root(self, name: str) -> str:
        """The name of the group that `name` has been merged into, or `name` itself."""
        while self._parent[name] != name:
            name = self._parent[name]
        return name

    def members(self) -> dict[str, tuple[str, ...]]:
        """Opened names by the group they ended up in, both in opening order."""
        found: dict[str, list[str]] = {}
        for name in self._parent:
            found.setdefault(self.root(name), []).append(name)
        return {name: tuple(names) for name, names in found.items()}

    def reason(self, name: str) -> str | None:
        """Why the group of `name` is frozen, or None."""
        return self._reasons.get(self.root(name))

    def freeze(self, parts: Iterable[Part], reason: str) -> None:
        """Marks every group in `parts` as never changing; the first reason stays."""
        for part in parts:
            if part.group is not None:
                self._reasons.setdefault(self.root(part.group), reason)

    def freeze_value(self, value: str, reason: str) -> None:
        """Marks every group in a value's layout as never changing, if it has a layout."""
        if value in self.layouts:
            self.freeze(self.layouts[value].parts, reason)

    def unite(self, first: Parts, second: Parts, where: str) -> Parts:
        """One layout for two that must agree channel by channel; unlike structures freeze both."""
        if [(p.channels, p.repeat) for p in first] != [(p.channels, p.repeat) for p in second]:
            reason = f"joined at {where} with channels of another structure"
            self.freeze((*first, *second), reason)
            return (Part(None, size_of(first)),)
        for a, b in zip(first, second, strict=True):
            if a.group is None or b.group is None:
                self.freeze((a, b), f"joined at {where} with channels that cannot change")
            else:
                self._merge(a.group, b.group)
        return first

    def tile(self, part: Part, count: int) -> Part:
        """Ties channels that lie so many times in a row: the first of each run, the second, and so on.

        The group then has as many channels as one run, everywhere.
        """
        assert part.group is not None
        root = self.root(part.group)

        def _tiled(parts: Parts) -> Parts:
            found: list[Part] = []
            for each in parts:
                if each.group is not None and self.root(each.group) == root:
                    run = Part(each.group, each.channels // count, each.repeat)
                    found += [run] * count
                else:
                    found.append(each)
            return tuple(found)

        self.layouts = {n: Layout(x.dim, _tiled(x.parts)) for n, x in self.layouts.items()}
        self.tensor_parts = {key: _tiled(parts) for key, parts in self.tensor_parts.items()}
        return Part(part.group, part.channels // count, part.repeat)

    def note_tensor(self, tensor: str, dim: int, parts: Parts) -> None:
        """Ties a dimension of a stored tensor to channels."""
        known = self.tensor_parts.get((tensor, dim))
        if known is None:
            self.tensor_parts[(tensor, dim)] = parts
        else:
            self.unite(known, parts, f"tensor {tensor}")

    def settled(self, parts: Parts) -> Parts:
        """The parts by final group; neighbours that never change are one part."""
        result: list[Part] = []
        for part in parts:
            if part.group is not None and self.reason(part.group) is None:
                result.append(Part(self.root(part.group), part.channels, part.repeat))
                continue
            fixed = part.channels * part.repeat
            if result and result[-1].group is None:
                fixed += result.pop().channels
            result.append(Part(None, fixed))
        return tuple(result)

    def _merge(self, a: str, b: str) -> None:
        order = {name: position for position, name in enumerate(self._parent)}
        first, second = sorted((self.root(a), self.root(b)), key=order.__getitem__)
        if first == second:
            return
        reason = self._reasons.get(first) or self._reasons.pop(second, None)
        self._parent[second] = first
        if reason is not None:
            self._reasons[first] = reason


def size_of(parts: Parts) -> int:
    """Entries along the dimension that the parts describe."""
    return sum(part.channels * part.repeat for part in parts)
