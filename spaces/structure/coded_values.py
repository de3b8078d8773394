"""Which values of a graph are worth 8-bit codes: those that integer kernels read or must write.

Rounding costs accuracy and time, and buys something only in front of an integer kernel. Codes are
read by convolutions, linear layers and products of two values; what only moves values hands them on.
Additions, products, pools and activations that have a kernel on codes use it where their result is
wanted as codes, or where all they read is codes already, as behind convolutions, whose kernels give
nothing else. So the residual stream of a transformer, which ends in norms, stays float, and with it
the few channels that reach far beyond all others; that of a ResNet is codes. Norms, softmax and GELU
read what is there.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from paredown.spaces.graph.graph import Graph, Node, Ref
from paredown.spaces.structure.code_kernels import (
    clamps_codes,
    multiplies,
    operands,
    reads_values_alone,
    turns_codes_into_codes,
)
from paredown.spaces.structure.side_values import side_values


@dataclass(frozen=True, kw_only=True)
class Coding:
    """Codes of a graph whose segments all compute in 8 bits; where some do not, less is coded.

    `values` are held as codes. `written` are those of them that a kernel computes as codes, so that
    whatever reads them reads codes; the others exist as floats too. `readers` are the operators
    that read codes.
    """

    values: frozenset[str]
    written: frozenset[str]
    readers: frozenset[str]


def read_coding(graph: Graph, masked: Collection[str] = ()) -> Coding:
    """What of the graph is codes.

    Args:
        graph: Without QDQ nodes.
        masked: Values that never are: sums with a mask, see `side_values`.
    """
    may_be = _float_values(graph) - side_values(graph) - frozenset(masked)
    may_be -= frozenset(graph.outputs)
    given = _given(graph, may_be)
    wanted: set[str] = set()
    readers: set[str] = set()
    for node in reversed(graph.nodes):
        if _reads(graph, node, may_be, node.name in given or node.name in wanted):
            readers.add(node.name)
            wanted.update(_read_by(node))
    values = given | wanted
    # A float kernel's result, and the product of a matrix, exist as floats beside their codes.
    follows = {n.name for n in graph.nodes if n.name in readers and not multiplies(n)}
    return Coding(values=values, written=given | (values & follows), readers=frozenset(readers))


def _given(graph: Graph, may_be: frozenset[str]) -> frozenset[str]:
    """Values that are codes because their kernels write nothing else, or read nothing else."""
    found: set[str] = set()
    for node in graph.nodes:
        if node.name not in may_be:
            continue
        if _must_write(graph, node):
            if node.args[0].name in may_be:
                found.add(node.name)
        elif _follows(graph, node) and found.issuperset(_read_by(node)):
            found.add(node.name)
    return frozenset(found)


def _must_write(graph: Graph, node: Node) -> bool:
    """Whether the operator's integer kernel has no float result."""
    kind = node.facts.kind
    if kind == "conv":
        return True
    users = graph.users.get(node.name, ())
    if kind != "linear" or len(node.shape) != 2 or len(users) != 1:
        return False
    is_left_float = clamps_codes(users[0]) and users[0].name in graph.outputs
    return users[0].facts.float_gemm_takes and not is_left_float


def _reads(graph: Graph, node: Node, may_be: frozenset[str], is_coded: bool) -> bool:
    """Whether the operator reads codes, where its own result `is_coded` or is not."""
    if not may_be.issuperset(_read_by(node)):
        return False
    if multiplies(node):
        return node.facts.kind != "matmul" or reads_values_alone(graph, node)
    if not is_coded or not _follows(graph, node):
        return False
    # A clamp behind a float kernel is computed with it: rounding once, behind it, is enough.
    source = graph.by_name.get(node.inputs[0])
    follows = source is None or multiplies(source) or turns_codes_into_codes(source)
    return follows or not clamps_codes(node)


def _read_by(node: Node) -> tuple[str, ...]:
    """What the operator reads as codes if it reads any: a layer's weight is not among them."""
    if node.facts.kind in ("conv", "linear"):
        return (node.ref(0),)
    if node.facts.moves_data:
        return node.inputs[:1]
    return tuple(each.name for each in operands(node) if isinstance(each, Ref))


def _follows(graph: Graph, node: Node) -> bool:
    """Whether the result can be codes where all that the operator reads is."""
    return turns_codes_into_codes(node) and reads_values_alone(graph, node)


def _float_values(graph: Graph) -> frozenset[str]:
    """Values that hold one float tensor: token ids, masks, indices and tuples of tensors are none."""
    floats = {n for n, d in zip(graph.inputs, graph.input_dtypes, strict=True) if d == "float32"}
    for node in graph.nodes:
        if node.dtype == "float32" and not node.facts.has_several_outputs:
            floats.add(node.name)
    return frozenset(floats)
