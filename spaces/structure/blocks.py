"""Finds residual blocks: they may be skipped, because their sum then passes its input on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from paredown.spaces.graph.graph import Graph, Node, Ref, prune_dead, rename_value
from paredown.spaces.graph.names import ADD
from paredown.spaces.structure.model_map import Block, Layer


def read_blocks(graph: Graph, layers: tuple[Layer, ...]) -> tuple[Block, ...]:
    """Additions `x + f(x)` of equal shapes where f holds a layer and is read by nothing else.

    A layer that is called outside of f too would stay when the block goes, so f is no block then.
    A block is named by the module path its layers share, or, if that is not unique, by the sum.
    """
    found: list[tuple[Node, str, tuple[str, ...]]] = []
    for node in graph.nodes:
        if node.op != ADD or not all(isinstance(a, Ref) for a in node.args[:2]):
            continue
        first, second = node.args[0].name, node.args[1].name
        for bypass, branch in ((first, second), (second, first)):
            inside = _between(graph, bypass, branch, node)
            within = [layer for layer in layers if not inside.isdisjoint(_users(layer))]
            names = tuple(layer.name for layer in within)
            is_whole = all(inside.issuperset(_users(layer)) for layer in within)
            if names and is_whole and graph.shape_of(bypass) == node.shape:
                found.append((node, bypass, names))
    paths = [module_path(names) for _, _, names in found]
    return tuple(
        Block(
            name=path if path and paths.count(path) == 1 else node.name,
            output=node.name,
            bypass=bypass,
            layers=names,
        )
        for path, (node, bypass, names) in zip(paths, found, strict=True)
    )


def _users(layer: Layer) -> tuple[str, ...]:
    return (*layer.nodes, *layer.lookups)


def bypass_blocks(graph: Graph, blocks: Sequence[Block]) -> Graph:
    """The graph where each block's sum is its input, without the operators this leaves unused.

    Args:
        blocks: In execution order, as `read_blocks` gives them.
    """
    # From the last to the first: a block's input may be the sum of the block before it.
    for block in reversed(blocks):
        nodes = tuple(
            replace(node, args=rename_value(node.args, block.output, block.bypass))
            for node in graph.nodes
        )
        outputs = tuple(block.bypass if name == block.output else name for name in graph.outputs)
        graph = replace(graph, nodes=nodes, outputs=outputs)
    return prune_dead(graph) if blocks else graph


def module_path(layers: tuple[str, ...]) -> str:
    """The module path that all layer names share; "" where they share none.

    >>> module_path(("layer1.0.conv1", "layer1.0.conv2"))
    'layer1.0'
    """
    shared: list[str] = []
    for steps in zip(*(name.split(".") for name in layers), strict=False):
        if len(set(steps)) > 1:
            break
        shared.append(steps[0])
    return ".".join(shared)


def _between(graph: Graph, source: str, end: str, join: Node) -> frozenset[str]:
    """Nodes from `source` (not included) to `end`; empty unless they depend on `source` alone.

    They must be read by each other and by `join` only: else skipping would not remove them.
    """
    inside: set[str] = set()
    pending = [end]
    while pending:
        name = pending.pop()
        if name == source or name in inside or name not in graph.values:
            continue
        if name in graph.inputs or name in graph.outputs:
            return frozenset()
        inside.add(name)
        pending.extend(graph.by_name[name].inputs)
    readers = {user.name for name in inside for user in graph.users[name]}
    touches = any(source in graph.by_name[name].inputs for name in inside)
    return frozenset(inside) if touches and readers <= inside | {join.name} else frozenset()
