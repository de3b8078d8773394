"""Which channels must shrink together: a union-find over groups, with reasons to freeze them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from paredown.spaces.channels.parts import Part, Parts, cut, size_of
from paredown.spaces.graph.graph import Graph, Node, Ref


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

    def __init__(self, graph: Graph, tensors: Mapping[str, Tensor]) -> None:
        self.graph = graph
        self.tensors = tensors
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

    def block(self, node: Node, why: str) -> Layout | None:
        """No layout, and all channels that the node reads are frozen."""
        for name in node.inputs:
            self.freeze_value(name, f"{node.op} ({node.name}) {why}")
        return None

    def source(self, node: Node) -> Layout | None:
        """The layout of the node's first argument."""
        first = node.args[0]
        return self.layouts.get(first.name) if isinstance(first, Ref) else None

    def rank(self, node: Node) -> int:
        """Number of dimensions of the node's first argument."""
        return len(self.shape_of(node.ref(0)))

    def shape_of(self, name: str) -> tuple[int, ...]:
        """Shape of a value or of a stored tensor."""
        if name in self.tensors:
            return tuple(self.tensors[name].shape)
        return self.graph.shape_of(name)

    def unite(self, first: Parts, second: Parts, where: str) -> Parts:
        """One layout for two that must agree channel by channel; unlike structures freeze both.

        Where a channel of one side meets several of the other, those are folded into one.
        """
        first, second = self._aligned(first, second)
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

    def tile(self, parts: Parts, part: Part, count: int) -> Parts:
        """Ties channels that lie so many times in a row: the first of each run, the second, and so on.

        The group of `part` then has as many channels as one run, everywhere.

        Returns:
            `parts` as they are afterwards.
        """

        def _tiled(each: Part) -> Parts:
            return (Part(each.group, each.channels // count, each.repeat),) * count

        return self._rewrite(parts, part, _tiled)

    def fold(self, parts: Parts, part: Part, count: int) -> Parts:
        """Ties so many neighbours at a time: each run of `count` channels is one, everywhere.

        Returns:
            `parts` as they are afterwards.
        """

        def _folded(each: Part) -> Parts:
            return (Part(each.group, each.channels // count, each.repeat * count),)

        return self._rewrite(parts, part, _folded)

    def cut(self, parts: Parts, start: int, end: int) -> Parts | None:
        """The parts of the entries from `start` to `end`, as groups that are independent of the rest.

        A group that reaches over an edge becomes two, everywhere; None where an edge cuts a channel.
        """
        for edge in (start, end):
            position = 0
            for part in parts:
                inside, rest = divmod(edge - position, part.repeat)
                position += part.size
                if part.group is None or not 0 < inside * part.repeat + rest < part.size:
                    continue
                if rest:
                    return None
                parts = self._split(parts, part, inside)
                break
        return cut(parts, start, end)

    def _split(self, parts: Parts, part: Part, count: int) -> Parts:
        """Makes a group of its own of the channels of a group from number `count` on."""
        assert part.group is not None
        other = f"{part.group}.{count}"
        self.open(other)
        if (reason := self.reason(part.group)) is not None:
            self._reasons[other] = reason

        def _halves(each: Part) -> Parts:
            return (
                Part(each.group, count, each.repeat),
                Part(other, each.channels - count, each.repeat),
            )

        return self._rewrite(parts, part, _halves)

    def _aligned(self, first: Parts, second: Parts) -> tuple[Parts, Parts]:
        """Both, after folding the finer channels of parts of equal size."""
        for place in range(min(len(first), len(second))):
            a, b = first[place], second[place]
            fine, coarse = (a, b) if a.repeat < b.repeat else (b, a)
            count, rest = divmod(coarse.repeat, fine.repeat)
            if a.size != b.size or rest or fine.group is None or fine.channels % count:
                break
            if count > 1:
                both = self.fold((*first, *second), fine, count)
                first, second = both[: len(first)], both[len(first) :]
        return first, second

    def _rewrite(self, parts: Parts, part: Part, change: Callable[[Part], Parts]) -> Parts:
        """Changes how the group of `part` lies, in all that is known and in `parts`."""
        assert part.group is not None
        root = self.root(part.group)

        def _changed(parts: Parts) -> Parts:
            found: list[Part] = []
            for each in parts:
                is_of_group = each.group is not None and self.root(each.group) == root
                found += change(each) if is_of_group else (each,)
            return tuple(found)

        self.layouts = {n: Layout(x.dim, _changed(x.parts)) for n, x in self.layouts.items()}
        self.tensor_parts = {key: _changed(known) for key, known in self.tensor_parts.items()}
        return _changed(parts)

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
