"""Sizes in an ONNX file: constants, or computed in the file where an axis may have any size."""

from __future__ import annotations

import torch

from paredown.compressors.onnx.emitter import Emitter
from paredown.compressors.onnx.plan import ExportError
from paredown.spaces.graph.graph import Arg, Graph, Node, Ref, run
from paredown.spaces.graph.sizes import BATCH, TIME, Size, Term

_OPERATORS = {"+": "Add", "*": "Mul", "//": "Div"}


def known(e: Emitter, arg: Arg) -> Arg:
    """The argument with numbers for all sizes but those that follow a free axis."""
    if isinstance(arg, tuple):
        return tuple(known(e, each) for each in arg)
    return arg.at(e.graph.axes) if isinstance(arg, Size) and not arg.axes & e.graph.free else arg


def fixed(e: Emitter, node: Node) -> tuple[Arg, ...]:
    """The node's arguments with numbers for all sizes.

    Raises:
        ExportError: One follows an axis that stays free.
    """
    args: tuple[Arg, ...] = known(e, node.args)
    if _is_free(args):
        raise ExportError(
            f"{node.op} (value {node.name!r}) has no ONNX lowering for sizes that stay free; leave that "
            "axis out of hardware.axes"
        )
    return args


def size_list(e: Emitter, sizes: tuple[int | Size, ...]) -> str:
    """The sizes as a list of int64."""
    parts = known(e, sizes)
    if not _is_free(parts):
        return e.plan.integers(tuple(int(part) for part in parts))
    return e.plan.emit("Concat", *(_one(e, part) for part in parts), axis=0)


def target(e: Emitter, sizes: tuple[int | Size, ...]) -> str:
    """The sizes that a Reshape leads to: of those that are free, one follows from the others."""
    parts = list(known(e, sizes))
    free = [at for at, part in enumerate(parts) if isinstance(part, Size)]
    if free and -1 not in parts:
        parts[free[-1]] = -1
    return size_list(e, tuple(parts))


def number(e: Emitter, arg: Arg, dtype: str) -> str:
    """A number, or a size, as a scalar of this type."""
    part = known(e, arg)
    if not isinstance(part, Size):
        return e.value(part, dtype)
    scalar = e.plan.emit("Squeeze", _one(e, part))
    return e.cast(scalar, "int64", dtype)


def shape_as(e: Emitter, arg: Ref, shape: tuple[int, ...]) -> str:
    """The shape of a value, which is `shape` where no axis is free."""
    return e.plan.emit("Shape", e.value(arg)) if e.graph.free else e.plan.integers(shape)


def input_dims(graph: Graph, name: str) -> tuple[int | str, ...]:
    """Sizes of an input of the file, with the names of free axes."""
    shape = graph.input_shapes[graph.inputs.index(name)]
    rest = (TIME, *shape[2:]) if name in graph.timed else shape[1:]
    return (BATCH if BATCH in graph.free else shape[0], *rest)


def output_dims(e: Emitter, name: str) -> tuple[int | str, ...]:
    """Sizes of an output of the file, with names where they follow a free axis."""
    graph = e.graph
    shape = graph.shape_of(name)
    if not graph.free:
        return shape
    axes = {graph.axes[axis]: axis for axis in graph.free}
    pairs = enumerate(zip(shape, _when_longer(e)[graph.outputs.index(name)], strict=True))
    return tuple(a if a == b else axes.get(a, f"{name}_{at}") for at, (a, b) in pairs)


def _when_longer(e: Emitter) -> list[tuple[int, ...]]:
    """Shapes of the outputs where every free axis is three times as long, found on shapes alone."""
    graph = e.graph
    inputs = []
    for name, dtype in zip(graph.inputs, graph.input_dtypes, strict=True):
        dims = (3 * graph.axes[d] if isinstance(d, str) else d for d in input_dims(graph, name))
        inputs.append(torch.empty(tuple(dims), dtype=getattr(torch, dtype), device="meta"))
    tensors = {
        name: torch.empty(s.shape, dtype=getattr(torch, s.dtype), device="meta")
        for name, s in e.storage.items()
    }
    return [tuple(x.shape) for x in run(graph, tensors, inputs)]


def _is_free(arg: Arg) -> bool:
    return isinstance(arg, Size) or (isinstance(arg, tuple) and any(map(_is_free, arg)))


def _one(e: Emitter, part: int | Size) -> str:
    """A list of one int64."""
    return e.plan.integers((part,)) if isinstance(part, int) else _term(e, part.term)


def _term(e: Emitter, term: Term) -> str:
    if isinstance(term, int):
        return e.plan.integers((term,))
    if isinstance(term, str):
        return _axis(e, term)
    operation, *operands = term
    found, *others = (_term(e, each) for each in operands)
    for other in others:
        found = e.plan.emit(_OPERATORS[str(operation)], found, other)
    return found


def _axis(e: Emitter, name: str) -> str:
    graph = e.graph
    if name not in graph.free:
        return e.plan.integers((graph.axes[name],))
    source = graph.inputs[0] if name == BATCH else graph.timed[0]
    dim = 0 if name == BATCH else 1
    return e.once(f"size of {name}", lambda: e.plan.emit("Shape", source, start=dim, end=dim + 1))
