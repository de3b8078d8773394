"""What a node does with 8-bit codes in ONNX Runtime: moves them, computes on them, clamps them."""

from __future__ import annotations

from paredown.spaces.graph.graph import Arg, Graph, Node, Ref
from paredown.spaces.graph.names import MEAN


def is_global_pool(node: Node) -> bool:
    """Whether a mean is written as a global pooling: over all positions, dimensions kept."""
    if node.op != MEAN or not node.args[2]:
        return False
    rank = len(node.shape)
    axes = sorted(axis % rank for axis in node.args[1] or ())
    return rank in (3, 4) and axes == list(range(2, rank))


def multiplies(node: Node) -> bool:
    """Whether it is a product that has kernels on codes: a convolution, a linear layer or a matmul."""
    return node.facts.kind in ("conv", "linear", "matmul")


def clamps_codes(node: Node) -> bool:
    """Whether a clamp goes into the codes' own range, and so into the kernel before it.

    ONNX Runtime 1.31 drops a clamp whose bounds hold all that the codes stand for. Codes from zero are
    exact there; of any other range they reach past the lower bound by up to half a step, the clamp stays,
    and the layer before it falls back to floats.
    """
    return node.facts.is_clamp and (len(node.args) == 1 or node.args[1] == 0)


def keeps_floats(product: Node, reader: Node) -> bool:
    """Whether a linear layer that gives floats to this one reader runs in floats, whatever it reads.

    ONNX Runtime 1.31 fuses some activations into a Gemm before it looks for codes, and finds no codes in
    front of a MatMul whose result is clamped; between a product and its bias it does.
    """
    if len(product.shape) == 2:
        return reader.facts.float_gemm_takes
    return reader.facts.is_clamp and product.args[2] is None


def has_code_kernel(node: Node) -> bool:
    """Whether an operator other than a product has a kernel that computes codes from codes."""
    facts = node.facts
    if facts.is_clamp:
        return clamps_codes(node)
    if facts.integer_kernel is None or multiplies(node):
        return False
    return node.op != MEAN or is_global_pool(node)


def turns_codes_into_codes(node: Node) -> bool:
    """Whether its result can be codes where it reads codes, without a product: moved or computed."""
    return node.facts.moves_data or has_code_kernel(node)


def operands(node: Node) -> tuple[Arg, ...]:
    """What an operator computes on: its first argument, a tuple's entries, or its first two."""
    first = node.args[0]
    return first if isinstance(first, tuple) else node.args[: node.facts.operands]


def reads_values_alone(graph: Graph, node: Node) -> bool:
    """Whether no operand is a constant: tensors of the model and numbers have no codes."""
    return all(isinstance(each, Ref) and each.name in graph.values for each in operands(node))
