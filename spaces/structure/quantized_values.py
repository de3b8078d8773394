"""Marks the values of 8-bit segments with explicit QDQ nodes, as the exported file will hold them.

The rules keep the integer kernels of a QDQ runtime: a layer's or addition's output stays unmarked in
front of the ReLU that alone reads it (the two fuse), operators that only move data share the codes of
their input, and the model's outputs stay float.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from paredown.spaces.graph.functions import QDQ
from paredown.spaces.graph.graph import Graph, Node, Ref, rename_value
from paredown.spaces.graph.names import ADD
from paredown.spaces.structure.code_kernels import clamps_codes
from paredown.spaces.structure.coded_values import Coding, read_coding

Parameters = Mapping[str, tuple[float, int]]
"""Scale and zero point of the unsigned 8-bit codes of each value."""

LOW, HIGH = 0, 255
PLACEHOLDER = (1 / 255, 0)
"""Codes of 0 to 1 where none were calibrated: inside every clamp, which a runtime then drops. With
wider codes a ReLU6 stays, and the layer before it has no integer kernel."""

NARROW_BLOCK = 128
"""Inputs that share a scale as narrow weights are read, where the weights have one scale for each output.

Left to itself ONNX Runtime spreads that scale over blocks of 32, and reads four times as many."""
_FEW_ROWS = 4
_MANY_WEIGHTS = 2**19


def reads_narrow_weights(rows: int, weight_count: int) -> bool:
    """Whether a linear layer with float inputs reads its narrow weights as they are stored.

    ONNX Runtime's kernel for that (MatMulNBits) wins where few rows share much weight traffic: 1024 x
    1024 in 4 bits is 5.5 times faster than float at one row and 1.9 times at four (1.31.1, AVX-512,
    one thread); at 512 x 512 both take the same, and with more rows it is up to twice as slow.
    Elsewhere weights are made floats once, when the model is loaded.
    """
    return rows <= _FEW_ROWS and weight_count >= _MANY_WEIGHTS


def code_source(graph: Graph, value: str, coding: Coding) -> str:
    """The value whose codes `value` shares: itself, or what it was moved or pooled from as codes."""
    while value in coding.readers and graph.by_name[value].facts.moves_data:
        value = graph.by_name[value].inputs[0]
    return value


def mark_quantized(
    graph: Graph,
    is_8_bit: Callable[[str], bool],
    parameters: Parameters | None,
    masked: Collection[str] = (),
) -> Graph:
    """The graph with a QDQ node behind every value that is codes in 8-bit segments.

    Args:
        graph: Without QDQ nodes.
        is_8_bit: Whether a node, by name, lies in an 8-bit segment.
        parameters: By value; None writes placeholders, for a graph that is only priced.
        masked: Values that stay float: sums with a mask.
    """
    nodes: list[Node] = []
    coding = read_coding(graph, masked)
    renamed: dict[str, str] = {}  # seen by every user
    entering: dict[str, str] = {}  # seen by users in 8-bit segments only, if they read codes

    def _reads_codes(node: Node) -> bool:
        return node.name in coding.readers and is_8_bit(node.name)

    def _mark(value: str, shape: tuple[int, ...]) -> None:
        users = graph.users.get(value, ())
        is_written = value in coding.written and is_8_bit(value)
        is_read = value in coding.values and any(_reads_codes(user) for user in users)
        if not (is_written or is_read) or _fuses_into_clamp(graph, value, coding, is_8_bit):
            return
        name = f"{value}.q"
        source = code_source(graph, value, coding)
        scale, zero_point = _codes(graph, source, parameters)
        args = (Ref(value), scale, zero_point, LOW, HIGH)
        nodes.append(Node(name=name, op=QDQ, args=args, shape=shape))
        (renamed if is_written else entering)[value] = name

    for value, shape in zip(graph.inputs, graph.input_shapes, strict=True):
        _mark(value, shape)
    for node in graph.nodes:
        args = node.args
        for name in dict.fromkeys(node.inputs):
            new = renamed.get(name) or (entering.get(name) if _reads_codes(node) else None)
            args = rename_value(args, name, new) if new else args
        nodes.append(replace(node, args=args))
        _mark(node.name, node.shape)
    return replace(graph, nodes=tuple(nodes))


def _fuses_into_clamp(
    graph: Graph, value: str, coding: Coding, is_8_bit: Callable[[str], bool]
) -> bool:
    """Whether the operator computes in one kernel with the clamp that alone reads it."""
    node, users = graph.by_name.get(value), graph.users.get(value, ())
    if node is None or not is_8_bit(value) or len(users) != 1:
        return False
    is_clamped = clamps_codes(users[0]) and users[0].name in coding.values
    fuses = node.op == ADD or node.facts.kind in ("conv", "conv_transpose", "linear")
    return is_clamped and fuses


def _codes(graph: Graph, value: str, parameters: Parameters | None) -> tuple[float, int]:
    """Scale and zero point: what mathematics knows comes before what calibration saw."""
    node = graph.by_name.get(value)
    if node is not None and node.facts.known_codes is not None:
        return node.facts.known_codes
    return PLACEHOLDER if parameters is None else parameters[value]
