"""The operator graph of a network: frozen records that can be run, rewritten and stored as JSON.

A `Graph` holds ATen operators in execution order. Tensors live beside it, by name, so one graph
serves many sets of weights, and the same graph is scored, priced and lowered to ONNX.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, cast

from torch import Tensor

from paredown.spaces.graph.facts import OperatorFacts, Result
from paredown.spaces.graph.operators import OPERATORS
from paredown.spaces.graph.sizes import BATCH, TIME, Size
from paredown.spaces.system.errors import ParedownError


class GraphError(ParedownError):
    """A graph cannot be read, or names something that may not be run."""


@dataclass(frozen=True)
class Ref:
    """An argument that stands for a value: a node's output, a graph input or a tensor."""

    name: str


Arg = Any
"""An argument: Ref, Size, int, float, bool, str, None, torch.dtype or a tuple of these."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """One operator: its arguments in schema order with every default filled in.

    `shape` is the output's at the example's batch size; () for operators with several outputs.
    `dtype` is the output's type by its torch name; of several outputs all have the same.
    """

    name: str
    op: str
    args: tuple[Arg, ...]
    shape: tuple[int, ...]
    dtype: str = "float32"

    @functools.cached_property
    def inputs(self) -> tuple[str, ...]:
        """Names of all values the node reads, in argument order, nested ones included."""
        return tuple(_refs(self.args))

    @property
    def facts(self) -> OperatorFacts:
        """What is known about its operator; a GraphError where that is nothing."""
        try:
            return OPERATORS[self.op]
        except KeyError:
            raise GraphError(
                f"graph: operator {self.op!r} of node {self.name!r} has no entry in OPERATORS; "
                "add one to spaces/graph/operators.py"
            ) from None

    def ref(self, position: int) -> str:
        """Name of the value or tensor that the argument at `position` stands for."""
        argument = self.args[position]
        assert isinstance(argument, Ref)
        return argument.name

    def with_arg(self, position: int, value: Arg) -> Node:
        """The node with another argument at `position`."""
        return replace(self, args=(*self.args[:position], value, *self.args[position + 1 :]))


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Operators in execution order, with named inputs and outputs.

    `input_shapes` are the example's; dimension 0 of each is the batch. `outputs` names values in
    the order of `output_keys`: ("",) for a bare tensor, ("0", "1") for a tuple, a dict's keys.
    `timed` names the inputs whose dimension 1 is the time axis, which may have any of the `lengths`,
    the shortest and the longest.
    `any_batch` says that the deployed model takes any batch, not the example's alone.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    input_shapes: tuple[tuple[int, ...], ...]
    input_dtypes: tuple[str, ...]
    outputs: tuple[str, ...]
    output_keys: tuple[str, ...]
    timed: tuple[str, ...] = ()
    lengths: tuple[int, int] = (0, 0)
    any_batch: bool = False

    @functools.cached_property
    def by_name(self) -> Mapping[str, Node]:
        """The nodes by name, in execution order."""
        return {node.name: node for node in self.nodes}

    @functools.cached_property
    def users(self) -> Mapping[str, tuple[Node, ...]]:
        """The nodes that read each value, in execution order."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                found.setdefault(name, []).append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}

    @functools.cached_property
    def values(self) -> frozenset[str]:
        """Names of inputs and node outputs: every other name a node reads is a tensor."""
        return frozenset(self.inputs) | frozenset(self.by_name)

    @property
    def batch_size(self) -> int:
        """Batch size of the example the shapes were read with."""
        return self.input_shapes[0][0]

    def axes_of(self, shapes: Sequence[tuple[int, ...]]) -> dict[str, int]:
        """Sizes of the free axes where the inputs have these shapes."""
        found = {BATCH: shapes[0][0]}
        for name, shape in zip(self.inputs, shapes, strict=True):
            if name in self.timed:
                found[TIME] = shape[1]
        return found

    @property
    def free(self) -> frozenset[str]:
        """The axes that may have any size in the deployed model."""
        return frozenset((BATCH,) * self.any_batch + (TIME,) * bool(self.timed))

    @functools.cached_property
    def axes(self) -> Mapping[str, int]:
        """Sizes of the free axes in the example that the shapes were read with."""
        return self.axes_of(self.input_shapes)

    def tensor_names(self) -> tuple[str, ...]:
        """Tensors (weights, biases, statistics) the nodes read, each once, in order of use."""
        names = (name for node in self.nodes for name in node.inputs if name not in self.values)
        return tuple(dict.fromkeys(names))

    def shape_of(self, value: str) -> tuple[int, ...]:
        """Shape of an input or a node's output at the example's batch size."""
        if value in self.by_name:
            return self.by_name[value].shape
        return self.input_shapes[self.inputs.index(value)]

    def dtype_of(self, value: str) -> str:
        """Type of an input or a node's output, by its torch name."""
        if value in self.by_name:
            return self.by_name[value].dtype
        return self.input_dtypes[self.inputs.index(value)]


Arguments = tuple[Any, ...]
"""Arguments as an operator takes them: tensors in place of references, numbers in place of batches."""


def run(
    graph: Graph,
    tensors: Mapping[str, Tensor],
    inputs: Sequence[Tensor],
    after: Callable[[Node, Arguments, Result], Result] | None = None,
    compute: Callable[[Node, Arguments], Result] | None = None,
) -> tuple[Tensor, ...]:
    """Outputs of the graph, in the order of `graph.outputs`; values are freed after last use.

    `compute(node, arguments)` gives an operator's output in place of the operator (`call`);
    `after(node, arguments, output)` sees every operator and returns the output to go on with.
    """
    compute = compute or call
    axes = graph.axes_of([tuple(x.shape) for x in inputs])
    last_use = _last_uses(graph)
    values: dict[str, Result] = {**tensors, **dict(zip(graph.inputs, inputs, strict=True))}
    for position, node in enumerate(graph.nodes):
        arguments = resolved(node.args, values, axes)
        # What reads nothing makes its values where the inputs are.
        with contextlib.nullcontext() if node.inputs else inputs[0].device:
            output = compute(node, arguments)
        values[node.name] = after(node, arguments, output) if after else output
        for name in last_use.get(position, ()):
            values.pop(name, None)
    return tuple(cast("Tensor", values[name]) for name in graph.outputs)


def call(node: Node, arguments: Arguments) -> Result:
    """What the node's operator gives."""
    return OPERATORS[node.op].function(*arguments)


def resolved(
    args: tuple[Arg, ...],
    values: Mapping[str, Any],
    axes: Mapping[str, int] = MappingProxyType({}),
) -> tuple[Any, ...]:
    """Arguments with values in the place of references, and numbers in that of sizes."""
    return tuple(_resolve(arg, values, axes) for arg in args)


def prune_dead(graph: Graph) -> Graph:
    """The graph without the nodes that no output depends on."""
    needed = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if node.name in needed:
            kept.append(node)
            needed.update(node.inputs)
    return replace(graph, nodes=tuple(reversed(kept)))


def rename_value(arg: Arg, old: str, new: str) -> Arg:
    """The argument with every `Ref(old)` in it replaced by `Ref(new)`."""
    if isinstance(arg, Ref):
        return Ref(new) if arg.name == old else arg
    if isinstance(arg, tuple):
        return tuple(rename_value(item, old, new) for item in arg)
    return arg


def _refs(arg: Arg) -> Iterator[str]:
    if isinstance(arg, Ref):
        yield arg.name
    elif isinstance(arg, tuple):
        for item in arg:
            yield from _refs(item)


def _resolve(arg: Arg, values: Mapping[str, Any], axes: Mapping[str, int]) -> Any:
    if isinstance(arg, Ref):
        return values[arg.name]
    if isinstance(arg, Size):
        return arg.at(axes)
    if isinstance(arg, tuple):
        return [_resolve(item, values, axes) for item in arg]
    return arg


def _last_uses(graph: Graph) -> dict[int, list[str]]:
    last: dict[str, int] = {}
    for position, node in enumerate(graph.nodes):
        last.setdefault(node.name, position)
        for name in node.inputs:
            last[name] = position
    freed: dict[int, list[str]] = {}
    for name, position in last.items():
        if name not in graph.outputs:
            freed.setdefault(position, []).append(name)
    return freed
