"""Values are made in the file when they are first read, once, and in the type that is wanted."""

from __future__ import annotations

import pytest

from paredown.compressors.onnx.emitter import Emitter
from paredown.compressors.onnx.plan import ExportError, PlanBuilder
from paredown.spaces.graph.functions import QDQ
from paredown.spaces.graph.graph import Graph, Node, Ref
from paredown.spaces.graph.sizes import Size


def emitter(*nodes: Node) -> Emitter:
    graph = Graph(
        nodes=nodes,
        inputs=("x",),
        input_shapes=((2, 3),),
        input_dtypes=("float32",),
        outputs=(),
        output_keys=(),
    )
    found = Emitter(graph=graph, storage={}, plan=PlanBuilder(taken=frozenset({"x"})))
    found.put_input("x")
    return found


def coded(name: str, source: str, scale: float = 0.1, low: int = 0) -> Node:
    return Node(name=name, op=QDQ, args=(Ref(source), scale, 0, low, 255), shape=(2, 3))


def operators(e: Emitter) -> list[str]:
    return [node.op_type for node in e.plan.nodes]


def test_an_input_keeps_its_name_and_another_type_is_cast_once() -> None:
    e = emitter()
    assert e.value(Ref("x")) == e.value(Ref("x"), "float32") == "x"
    assert e.value(Ref("x"), "int64") == e.value(Ref("x"), "int64") != "x"
    assert operators(e) == ["Cast"]


def test_codes_are_made_at_once_and_floats_only_when_they_are_read() -> None:
    node = coded("q", "x")
    e = emitter(node)
    e.put_codes(node)
    assert operators(e) == ["QuantizeLinear"]
    name, codes = e.moved(Ref("q"))
    assert codes is not None
    assert name in e.names("q")
    assert e.value(Ref("q")) == e.value(Ref("q"))
    assert operators(e) == ["QuantizeLinear", "DequantizeLinear"]


def test_the_same_codes_again_cost_nothing_and_others_are_refused() -> None:
    first, again, other = coded("a", "x"), coded("b", "a"), coded("c", "a", 0.2)
    e = emitter(first, again, other)
    e.put_codes(first)
    e.put_codes(again)
    assert operators(e) == ["QuantizeLinear"]
    with pytest.raises(ExportError, match="same parameters"):
        e.put_codes(other)


def test_codes_of_another_range_than_a_byte_are_refused() -> None:
    node = coded("q", "x", low=-128)
    with pytest.raises(ExportError, match=r"0\.\.255"):
        emitter(node).put_codes(node)


def test_sizes_follow_the_batch_and_what_is_left_out_has_no_name() -> None:
    e = emitter()
    assert e.sizes.known(Size.of_batch(3)) == 6
    assert e.sizes.known(7) == 7
    assert e.optional(None) == ""
