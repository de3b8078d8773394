"""Which values belong to padding: followed through the graph as a batch runs.

Rows of different lengths are padded to one. What is computed at the padding says nothing about what the
network will compute, so it is counted nowhere.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from paredown.spaces.graph.facts import Result
from paredown.spaces.graph.graph import Arg, Arguments, Graph, Node, Ref, call

_BY_POSITION = ("linear", "gates", "attention")
"""Kinds of work whose result at a position is that of their first argument's position."""
_MIXING = ("conv", "depthwise_conv", "conv_transpose", "recurrent")
"""Kinds of work that mix neighbours."""


@dataclass(frozen=True)
class RealValues:
    """By name, which values of a batch are real: boolean, broadcast to the value's shape.

    A value is real where it was computed from real ones: a score of attention where query and key are,
    the result of attention where the query is. All values are real where an operator mixes positions in
    a way that is not known here, such as a convolution over time, and where there is no padding.
    """

    found: dict[str, Tensor | list[Tensor]] = field(default_factory=dict)

    @classmethod
    def of_inputs(cls, graph: Graph, inputs: Sequence[Tensor], real: Tensor | None) -> RealValues:
        """Of a batch that begins.

        Args:
            real: (batch, time), true where a position is not padding; None where no row is padded. It
                holds for every input that begins with these two dimensions.
        """
        if real is None:
            return cls()
        padded = [
            (name, x.ndim - 2)
            for name, x in zip(graph.inputs, inputs, strict=True)
            if x.shape[:2] == real.shape
        ]
        return cls({name: real.reshape(*real.shape, *(1,) * more) for name, more in padded})

    def of(self, name: str) -> Tensor | None:
        """Of one value; None where all of it is real."""
        found = self.found.get(name)
        return found if isinstance(found, Tensor) else None

    def read(self, node: Node, arguments: Arguments) -> Arguments:
        """Arguments of a layer's node with nothing but the real positions, in a row, of what it reads."""
        kind = node.facts.kind
        at = {"linear": 0, "gates": 0, "embedding": 1}.get(kind or "")
        if at is None:
            return arguments
        x, real = arguments[at], self.of(node.ref(at))
        if real is None:
            return arguments
        kept = x[real] if kind == "embedding" else _positions(x, real)
        return (*arguments[:at], kept, *arguments[at + 1 :])

    def given(self, node: Node, output: Tensor) -> Tensor:
        """A layer's output, of which likewise."""
        real = self.of(node.name)
        return output if real is None else _positions(output, real)

    def follow(self, node: Node, arguments: Arguments, output: Result) -> None:
        """Finds what is real of the node's output."""
        if any(name in self.found for name in node.inputs):
            found = self._result(node, arguments, output)
            if isinstance(found, Tensor):
                self.found[node.name] = _slim(found)
            elif found is not None:
                self.found[node.name] = [_slim(each) for each in found]

    def _result(self, node: Node, arguments: Arguments, output: Result) -> Result | None:
        kind = node.facts.kind
        if node.facts.selects or (node.facts.moves_data and kind not in ("pool", "resize")):
            return call(node, (self._whole(node.args[0], arguments[0]), *arguments[1:]))
        if not isinstance(output, Tensor) or kind in _MIXING:
            return None
        if kind == "matmul":
            one, other = (self._whole(node.args[at], arguments[at]) for at in (0, 1))
            assert isinstance(one, Tensor)
            assert isinstance(other, Tensor)
            return _slim(one).any(-1, keepdim=True) & _slim(other).any(-2, keepdim=True)
        if kind == "embedding":
            tokens = self.of(node.ref(1))
            return None if tokens is None else tokens.unsqueeze(-1)
        if kind in _BY_POSITION:
            first = self.of(node.ref(0))
            return None if first is None else first.any(-1, keepdim=True)
        return self._by_element(node, arguments, output)

    def _by_element(self, node: Node, arguments: Arguments, output: Tensor) -> Tensor | None:
        """What is real of all operands, where they are broadcast; of a reduction, of any value read."""
        read = [x for x in arguments if isinstance(x, Tensor)]
        names = [arg.name for arg in node.args if isinstance(arg, Ref)]
        masks = [mask for mask in map(self.of, names) if mask is not None]
        if all(_fits(x, output) for x in read):
            return functools.reduce(operator.and_, masks)
        if self.of(names[0]) is None or output.ndim != read[0].ndim or not _fits(output, read[0]):
            return None
        mask = masks[0]
        for dim in range(output.ndim):
            if output.shape[dim] != read[0].shape[dim]:
                mask = mask.any(dim, keepdim=True)
        return mask

    def _whole(self, argument: Arg, value: Result) -> Result:
        """What is real of an argument, in its own shape; of several values, of each."""
        if isinstance(argument, tuple):
            return [
                t
                for a, v in zip(argument, value, strict=True)
                if isinstance(t := self._whole(a, v), Tensor)
            ]
        known = self.found.get(argument.name)
        if isinstance(known, list):
            return known
        assert isinstance(value, Tensor)
        whole = torch.ones((), dtype=torch.bool, device=value.device) if known is None else known
        return whole.expand(value.shape)


def _positions(x: Tensor, real: Tensor) -> Tensor:
    """Values (positions, channels) at the real ones of all positions."""
    return x[real.any(-1).expand(x.shape[:-1])]


def _fits(x: Tensor, whole: Tensor) -> bool:
    """Whether every dimension is one of the whole's, or 1."""
    sizes = zip(reversed(x.shape), reversed(whole.shape), strict=False)
    return x.ndim <= whole.ndim and all(size in (1, of) for size, of in sizes)


def _slim(mask: Tensor) -> Tensor:
    """Without what repeats: dimensions along which a view repeats one value are 1."""
    for dim, step in enumerate(mask.stride()):
        if step == 0:
            mask = mask.narrow(dim, 0, 1)
    return mask
