"""Marks the values of 8-bit segments with explicit QDQ nodes, as the exported file will hold them.

The rules keep the integer kernels of a QDQ runtime: a layer's or addition's output stays unmarked in
front of the ReLU that alone reads it (the two fuse), operators that only move data share the codes of
their input, and the model's outputs stay float.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from paredown.spaces.functions import GETITEM, QDQ
from paredown.spaces.graph import Graph, Node, Ref, rename_value

Parameters = Mapping[str, tuple[float, int]]
"""Scale and zero point of the unsigned 8-bit codes of each value."""

LOW, HIGH = 0, 255
PLACEHOLDER = (1 / 255, 0)
"""Codes of 0 to 1 where none were calibrated: inside every clamp, which a runtime then drops. With
wider codes a ReLU6 stays, and the layer before it has no integer kernel."""

_RECTIFIERS = ("aten.relu.default", "aten.relu6.default", "aten.hardtanh.default")
_FUSES_RECTIFIER = ("aten.conv", "aten.linear", "aten.add.Tensor")
MOVES_DATA = (
    "aten.view.default",
    "aten.reshape.default",
    "aten.flatten.using_ints",
    "aten.transpose.int",
    "aten.permute.default",
    "aten.unsqueeze.default",
    "aten.squeeze.dim",
    "aten.slice.Tensor",
    "aten.select.int",
    "aten.expand.default",
    "aten.pad.default",
    "aten.constant_pad_nd.default",
    "aten.max_pool1d.default",
    "aten.max_pool2d.default",
    "aten.pixel_shuffle.default",
    "aten.upsample_nearest2d.vec",
    "aten.channel_shuffle.default",
    "aten.split.Tensor",
    "aten.split_with_sizes.default",
    "aten.chunk.default",
    "aten.unbind.int",
    GETITEM,
)
"""Operators that move, repeat or select values and compute none, so codes go through unchanged."""

FLOAT_GEMM_TAKES = frozenset(
    f"aten.{name}.default" for name in ("relu", "leaky_relu", "sigmoid", "tanh", "hardsigmoid")
)
"""Activations that ONNX Runtime 1.31 fuses into a Gemm of float result before it looks for quantised
ones: such a linear layer has no integer kernel, whatever it reads."""

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


def code_source(graph: Graph, value: str) -> str:
    """The value whose codes `value` shares: itself, or what it was moved or pooled from."""
    while value in graph.by_name and graph.by_name[value].op in MOVES_DATA:
        value = graph.by_name[value].inputs[0]
    return value


def mark_quantized(
    graph: Graph, is_8_bit: Callable[[str], bool], parameters: Parameters | None
) -> Graph:
    """The graph with a QDQ node behind every value that 8-bit segments compute or read.

    Args:
        graph: Without QDQ nodes.
        is_8_bit: Whether a node, by name, lies in an 8-bit segment.
        parameters: By value; None writes placeholders, for a graph that is only priced.
    """
    nodes: list[Node] = []
    floats = _float_values(graph)
    renamed: dict[str, str] = {}  # seen by every user
    entering: dict[str, str] = {}  # seen by users in 8-bit segments only

    def mark(value: str, shape: tuple[int, ...]) -> None:
        if value not in floats or not _is_marked(graph, value, is_8_bit):
            return
        name = f"{value}.q"
        found = PLACEHOLDER if parameters is None else parameters[code_source(graph, value)]
        scale, zero_point = found
        args = (Ref(value), scale, zero_point, LOW, HIGH)
        nodes.append(Node(name=name, op=QDQ, args=args, shape=shape))
        produced_in_8_bit = value in graph.by_name and is_8_bit(value)
        (renamed if produced_in_8_bit else entering)[value] = name

    for value, shape in zip(graph.inputs, graph.input_shapes, strict=True):
        mark(value, shape)
    for node in graph.nodes:
        args = node.args
        for name in dict.fromkeys(node.inputs):
            new = renamed.get(name) or (entering.get(name) if is_8_bit(node.name) else None)
            args = rename_value(args, name, new) if new else args
        nodes.append(replace(node, args=args))
        mark(node.name, node.shape)
    return replace(graph, nodes=tuple(nodes))


def _is_marked(graph: Graph, value: str, is_8_bit: Callable[[str], bool]) -> bool:
    users = graph.users.get(value, ())
    if value in graph.outputs or not users:
        return False
    produced = value in graph.by_name and is_8_bit(value)
    if not produced and not any(is_8_bit(user.name) for user in users):
        return False
    return not (produced and _fuses_into_rectifier(graph.by_name[value], users))


def _fuses_into_rectifier(node: Node, users: tuple[Node, ...]) -> bool:
    only = users[0] if len(users) == 1 else None
    return only is not None and only.op in _RECTIFIERS and node.op.startswith(_FUSES_RECTIFIER)


def _float_values(graph: Graph) -> frozenset[str]:
    """Values that hold one float tensor: token ids, masks, indices and tuples of tensors are none."""
    floats = {n for n, d in zip(graph.inputs, graph.input_dtypes, strict=True) if d == "float32"}
    for node in graph.nodes:
        if node.dtype == "float32" and (node.shape != () or not _has_many_outputs(node)):
            floats.add(node.name)
    return frozenset(floats)


def _has_many_outputs(node: Node) -> bool:
    return node.op.split(".")[1] in ("split", "split_with_sizes", "chunk", "unbind")
