"""A graph comes back from JSON as it was, and old graphs are still read."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from paredown.spaces.graph.graph import Graph, GraphError, Node, Ref
from paredown.spaces.graph.graph_json import from_json, to_json
from paredown.spaces.graph.sizes import Size, SizeError


def _graph(*args: object, op: str = "aten.view.default") -> Graph:
    node = Node(name="y", op=op, args=(Ref("x"), *args), shape=(2, 6))
    return Graph(
        nodes=(node,),
        inputs=("x",),
        input_shapes=((2, 6),),
        input_dtypes=("float32",),
        outputs=("y",),
        output_keys=("",),
    )


def test_sizes_come_back() -> None:
    size = Size(("+", ("*", 2, "time"), ("//", "batch", 3), -1))
    for graph in (
        _graph((size, -1)),
        replace(_graph((Size("time"), 3)), timed=("x",), lengths=(2, 9), any_batch=True),
        _graph(float("inf"), float("-inf")),
    ):
        assert from_json(json.loads(json.dumps(to_json(graph)))) == graph


def test_a_multiple_of_the_batch_is_written_as_it_always_was() -> None:
    text = json.dumps(to_json(_graph((Size.of_batch(3), -1))))
    assert '{"batch": 3}' in text
    assert "timed" not in text
    assert "any_batch" not in text


def test_core_operators_may_be_stored_and_no_others() -> None:
    core = _graph(1, op="aten.cumsum.default")
    assert from_json(to_json(core)) == core
    with pytest.raises(GraphError, match=r"aten\.rand_like\.default.*is not allowed"):
        from_json(to_json(_graph(op="aten.rand_like.default")))


def test_a_size_of_another_kind_is_refused() -> None:
    data = json.loads(json.dumps(to_json(_graph((Size("time"),)))).replace('"time"', '"width"'))
    with pytest.raises(SizeError, match="must be made of"):
        from_json(data)
