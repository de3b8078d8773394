"""Computes once what does not depend on the inputs: positions, masks, tables, products of weights."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from paredown.spaces.graph.core import function_of, overload_of
from paredown.spaces.graph.graph import Arg, Graph, Node, rename_value, resolved
from paredown.spaces.graph.operators import OPERATORS
from paredown.spaces.graph.sizes import Size

_CAT = "aten.cat.default"
# These repeat values, which a runtime does when it loads the file: a file need not hold them.
_REPEATS = ("aten.expand.default", "aten.repeat.default")
# What torch.nn.utils.parametrize calls the tensors that a weight is made of.
_MADE_OF = re.compile(r"parametrizations\.(\w+)\..*")


@dataclass
class _Constants:
    """Values that do not depend on the inputs, and the stored tensors that they are made of."""

    tensors: dict[str, Tensor]
    values: dict[str, Tensor | Sequence[Tensor]]
    nodes: dict[str, Node] = field(default_factory=dict)
    sources: dict[str, frozenset[str]] = field(default_factory=dict)

    def is_constant(self, node: Node) -> bool:
        """Whether a node reads constants alone, no size of the inputs, and draws no numbers."""
        reads_constants = all(n in self.values for n in node.inputs)
        return reads_constants and not _has_size(node.args) and _is_determined(node)

    def add(self, node: Node, value: Tensor | Sequence[Tensor]) -> None:
        """Remembers the value of a constant node."""
        self.nodes[node.name] = node
        self.values[node.name] = value
        read = [self.sources.get(name, frozenset({name})) for name in node.inputs]
        self.sources[node.name] = frozenset().union(*read)


def fold_constants(graph: Graph, tensors: Mapping[str, Tensor]) -> tuple[Graph, dict[str, Tensor]]:
    """The graph with its constant values as stored tensors.

    A tensor that is made of one stored tensor, or of those of one parametrised weight, has its name.
    """
    found = _Constants(dict(tensors), dict(tensors))
    live: list[Node] = []
    for node in graph.nodes:
        if found.is_constant(node):
            found.add(node, _computed(node, found))
        else:
            live.append(node)
    kept_names = {name for node in live for name in node.inputs}
    nodes: dict[str, Node] = {}
    stored: dict[str, str] = {}
    for node in live:
        node = _without_empty(node, found)
        args = node.args
        for name in node.inputs:
            args = rename_value(args, name, _kept(name, found, nodes, stored, kept_names))
        nodes[node.name] = replace(node, args=args)
    return replace(graph, nodes=tuple(nodes.values())), found.tensors


def _is_determined(node: Node) -> bool:
    overload = overload_of(node.op)
    if overload is None or overload._schema.is_mutable:
        return node.op in OPERATORS
    return torch.Tag.nondeterministic_seeded not in overload.tags


def _computed(node: Node, found: _Constants) -> Tensor | Sequence[Tensor]:
    # What is computed here once need not be an operator that a stored graph may hold.
    overload = overload_of(node.op)
    is_stored = node.op in OPERATORS or overload is None
    function = OPERATORS[node.op].function if is_stored else function_of(overload)
    with torch.no_grad():
        return function(*resolved(node.args, found.values))


def _kept(
    name: str,
    found: _Constants,
    nodes: dict[str, Node],
    stored: dict[str, str],
    live: set[str],
) -> str:
    """The name under which a live node reads a value: of a constant, that of its stored tensor."""
    node = found.nodes.get(name)
    if node is None:
        return name
    value = found.values[name]
    if not isinstance(value, Tensor) or _only_repeats(node, value, found):
        args = node.args
        for source in node.inputs:
            args = rename_value(args, source, _kept(source, found, nodes, stored, live))
        nodes.setdefault(name, replace(node, args=args))
        return name
    if name not in stored:
        stored[name] = _tensor_name(name, found, live | set(stored.values()))
        found.tensors[stored[name]] = value.contiguous()
    return stored[name]


def _only_repeats(node: Node, value: Tensor, found: _Constants) -> bool:
    source = found.values[node.inputs[0]] if node.inputs else value
    return node.op in _REPEATS and isinstance(source, Tensor) and value.numel() > source.numel()


def _tensor_name(name: str, found: _Constants, live: set[str]) -> str:
    # Places that values are picked from are no part of what the values are called.
    sources = [n for n in sorted(found.sources[name]) if found.tensors[n].is_floating_point()]
    whole = [_MADE_OF.sub(r"\1", source) for source in sources]
    # Letters are compared, not folders: weight_g and weight_v are of "weight".
    common = os.path.commonprefix(whole)  # noqa: RUF071
    if len(set(whole)) > 1:
        common = common.rstrip("_") if common.endswith("_") else ""
    # A name that something still reads stays that of what it was.
    is_free = common not in found.tensors or (common in sources and common not in live)
    return common if common and is_free else name


def _without_empty(node: Node, found: _Constants) -> Node:
    """A concatenation without tensors of shape (0,), which torch skips and a cache begins with."""
    if node.op != _CAT:
        return node
    parts = tuple(ref for ref in node.args[0] if not _is_empty(found.values.get(ref.name)))
    return replace(node, args=(parts, *node.args[1:]))


def _is_empty(value: Tensor | Sequence[Tensor] | None) -> bool:
    return isinstance(value, Tensor) and value.shape == (0,)


def _has_size(arg: Arg) -> bool:
    return isinstance(arg, Size) or (isinstance(arg, tuple) and any(map(_has_size, arg)))
