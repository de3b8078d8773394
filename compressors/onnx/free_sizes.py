"""Sizes in an ONNX file: constants, or computed in the file where an axis may have any size."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from paredown.compressors.onnx.plan import ExportError, PlanBuilder, onnx_type
from paredown.spaces.candidates.blueprint import Storage
from paredown.spaces.graph.facts import Result
from paredown.spaces.graph.graph import Arg, Arguments, Graph, Node, run
from paredown.spaces.graph.sizes import BATCH, TIME, Size, Term

_OPERATORS = {"+": "Add", "*": "Mul", "//": "Div"}


@dataclass(frozen=True)
class FreeSizes:
    """Writes sizes of a graph into a plan."""

    graph: Graph
    plan: PlanBuilder

    def known(self, arg: Arg) -> Arg:
        """The argument with numbers for all sizes but those that follow a free axis."""
        if isinstance(arg, tuple):
            return tuple(map(self.known, arg))
        is_known = isinstance(arg, Size) and not arg.axes & self.graph.free
        return arg.at(self.graph.axes) if is_known else arg

    def fixed(self, node: Node) -> tuple[Arg, ...]:
        """The node's arguments with numbers for all sizes.

        Raises:
            ExportError: One follows an axis that stays free.
        """
        args: tuple[Arg, ...] = self.known(node.args)
        if _has_size(args):
            raise ExportError(
                f"{node.op} (value {node.name!r}) has no ONNX lowering for sizes that stay free; leave "
                "that axis out of hardware.axes"
            )
        return args

    def listed(self, sizes: tuple[int | Size, ...]) -> str:
        """The sizes as a list of int64."""
        parts = self.known(sizes)
        if not _has_size(parts):
            return self.plan.integers(tuple(int(part) for part in parts))
        return self.plan.emit("Concat", *map(self._one, parts), axis=0)

    def target(self, sizes: tuple[int | Size, ...]) -> str:
        """The sizes that a Reshape leads to: of those that are free, one follows from the others."""
        parts = list(self.known(sizes))
        free = [at for at, part in enumerate(parts) if isinstance(part, Size)]
        if free and -1 not in parts:
            parts[free[-1]] = -1
        return self.listed(tuple(parts))

    def number(self, arg: float | Size, dtype: str) -> str:
        """A number, or a size, as a scalar of this type."""
        part = self.known(arg)
        if not isinstance(part, Size):
            return self.plan.number(part, dtype)
        scalar = self.plan.emit("Squeeze", self._one(part))
        return scalar if dtype == "int64" else self.plan.emit("Cast", scalar, to=onnx_type(dtype))

    def input_dims(self, name: str) -> tuple[int | str, ...]:
        """Sizes of an input of the file, with the names of free axes."""
        return _input_dims(self.graph, name)

    def output_dims(self, name: str, storage: Mapping[str, Storage]) -> tuple[int | str, ...]:
        """Sizes of an output of the file, with names where they follow a free axis."""
        graph = self.graph
        shape = graph.shape_of(name)
        if not graph.free:
            return shape
        axes = {graph.axes[axis]: axis for axis in sorted(graph.free)}
        other = _at_other_sizes(graph, _shapes(storage))[name]
        pairs = enumerate(zip(shape, other, strict=True))
        return tuple(a if a == b else axes.get(a, f"{name}_{at}") for at, (a, b) in pairs)

    def _one(self, part: int | Size) -> str:
        """A list of one int64."""
        return self._term(part.term if isinstance(part, Size) else part)

    def _term(self, term: Term) -> str:
        if isinstance(term, int):
            return self.plan.integers((term,))
        if isinstance(term, str):
            return self._axis(term)
        operation, *operands = term
        found, *others = map(self._term, operands)
        for other in others:
            found = self.plan.emit(_OPERATORS[str(operation)], found, other)
        return found

    def _axis(self, name: str) -> str:
        graph = self.graph
        if name not in graph.free:
            return self.plan.integers((graph.axes[name],))
        source = graph.inputs[0] if name == BATCH else graph.timed[0]
        dim = 0 if name == BATCH else 1
        return self.plan.once(
            name, lambda: self.plan.emit("Shape", source, start=dim, end=dim + 1)
        )


def following(graph: Graph, storage: Mapping[str, Storage]) -> frozenset[str]:
    """Names of the values that have a size which follows a free axis."""
    if not graph.free:
        return frozenset()
    other = _at_other_sizes(graph, _shapes(storage))
    return frozenset(name for name, shape in other.items() if shape != graph.shape_of(name))


def _input_dims(graph: Graph, name: str) -> tuple[int | str, ...]:
    shape = graph.input_shapes[graph.inputs.index(name)]
    rest: tuple[int | str, ...] = (TIME, *shape[2:]) if name in graph.timed else shape[1:]
    return (BATCH if BATCH in graph.free else shape[0], *rest)


_Shapes = tuple[tuple[str, tuple[int, ...], str], ...]
"""Tensors by name with their shapes and types."""


def _shapes(storage: Mapping[str, Storage]) -> _Shapes:
    return tuple((name, s.shape, s.dtype) for name, s in storage.items())


@functools.lru_cache(maxsize=256)  # a transformer's takes 50 ms, and candidates share it
def _at_other_sizes(graph: Graph, tensor_shapes: _Shapes) -> Mapping[str, tuple[int, ...]]:
    """Shapes of all values at other sizes of the free axes, found on shapes alone."""
    shapes: dict[str, tuple[int, ...]] = {}
    inputs = []
    # Positions may end at the longest length, so no longer one is tried.
    here, ends = graph.axes.get(TIME, 0), sorted(graph.lengths, reverse=True)
    others = {BATCH: 3 * graph.axes[BATCH], TIME: next((n for n in ends if n != here), here)}
    for name, dtype in zip(graph.inputs, graph.input_dtypes, strict=True):
        dims = (others[d] if isinstance(d, str) else d for d in _input_dims(graph, name))
        shapes[name] = tuple(dims)
        inputs.append(_on_shapes_alone(shapes[name], dtype))

    def _note(node: Node, _: Arguments, output: Result) -> Result:
        if isinstance(output, torch.Tensor):
            shapes[node.name] = tuple(output.shape)
        return output

    tensors = {name: _on_shapes_alone(shape, dtype) for name, shape, dtype in tensor_shapes}
    run(graph, tensors, inputs, after=_note)
    return shapes


def _on_shapes_alone(shape: tuple[int, ...], dtype: str) -> torch.Tensor:
    return torch.empty(shape, dtype=getattr(torch, dtype), device="meta")


def _has_size(arg: Arg) -> bool:
    return isinstance(arg, Size) or (isinstance(arg, tuple) and any(map(_has_size, arg)))
