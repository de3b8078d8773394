"""Values beside the path through the layers: masks, constants, and the sums that they stretch.

A padding mask is computed from the inputs without any weight and read by every attention; added to
scores it is -1e4 or -inf where nothing may be seen. Codes over such a range would keep nothing of
the scores. So masks, and what they are added to, stay in float, and a mask that is alive through the
whole network does not keep it in one segment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from paredown.spaces.graph.facts import Result
from paredown.spaces.graph.graph import Arguments, Graph, Node, Ref, run

FAR = 1e3
"""Magnitude from which a constant that is added is a mask: activations hardly reach it, and masks begin
above it (-1e4 where half precision was meant, -1e9, the lowest float, -inf)."""


def constant_values(graph: Graph) -> frozenset[str]:
    """Nodes that depend on no input, such as a slice of a table of positions."""
    varying = set(graph.inputs)
    for node in graph.nodes:
        if not varying.isdisjoint(node.inputs):
            varying.add(node.name)
    return frozenset(graph.by_name.keys() - varying)


def mask_values(graph: Graph) -> frozenset[str]:
    """Inputs, and what is computed from them without weights, that no weighted operator reads.

    Whether it is read is seen through operators that only move values: an image that is cut into
    windows for a convolution is none.
    """
    plain = set(graph.inputs) | constant_values(graph)
    for node in graph.nodes:
        values = [name for name in node.inputs if name in graph.values]
        if node.facts.weight is None and values and plain.issuperset(values):
            plain.add(node.name)
    read: set[str] = set()
    for node in reversed(graph.nodes):
        facts = node.facts
        if facts.weight is not None or (facts.moves_data and node.name in read):
            read.update(node.inputs)
    return frozenset(plain - read) - constant_values(graph)


def side_values(graph: Graph) -> frozenset[str]:
    """Masks and constants: what does not count among the values that cross between segments."""
    return mask_values(graph) | constant_values(graph)


def masked_values(graph: Graph, tensors: Mapping[str, Tensor]) -> frozenset[str]:
    """Sums of a mask and something else, and what only moves them: never 8-bit codes, maybe infinite.

    The largest of masked values are none any more, so what comes out of a max pool is left out.
    """
    masks = mask_values(graph) | _far_constants(graph, tensors)
    outside = masks | constant_values(graph)
    found: set[str] = set()
    for node in graph.nodes:
        if node.name in outside:
            continue
        facts = node.facts
        moved = facts.moves_data and facts.kind != "pool" and node.inputs[0] in found
        if moved or (facts.adds and any(_masks(arg, masks.union(found)) for arg in node.args)):
            found.add(node.name)
    return frozenset(found)


def uncoded_values(graph: Graph, tensors: Mapping[str, Tensor]) -> frozenset[str]:
    """Everything that is never codes on account of masks and constants; it may be infinite."""
    return side_values(graph) | masked_values(graph, tensors)


def _masks(arg: object, masks: frozenset[str]) -> bool:
    if isinstance(arg, Ref):
        return arg.name in masks
    return isinstance(arg, int | float) and abs(arg) >= FAR


def _far_constants(graph: Graph, tensors: Mapping[str, Tensor]) -> frozenset[str]:
    """Tensors, and values that are computed from tensors alone, that reach as far as masks do."""
    found = {name for name, tensor in tensors.items() if _reaches_far(tensor)}
    constant = constant_values(graph)

    def _note(node: Node, _: Arguments, output: Result) -> Result:
        if isinstance(output, Tensor) and _reaches_far(output):
            found.add(node.name)
        return output

    nodes = tuple(node for node in graph.nodes if node.name in constant)
    inputs = [torch.empty(shape) for shape in graph.input_shapes]
    with torch.no_grad():
        run(replace(graph, nodes=nodes, outputs=()), tensors, inputs, after=_note)
    return frozenset(found)


def _reaches_far(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and bool((~(tensor.abs() < FAR)).any())
