"""Graphs survive JSON, lose dead code, and refuse operators they do not know."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from paredown.spaces.graph.capturing import Captured
from paredown.spaces.graph.graph import (
    Graph,
    GraphError,
    Node,
    Ref,
    prune_dead,
    rename_value,
    run,
)
from paredown.spaces.graph.graph_json import from_json, to_json
from paredown.spaces.graph.sizes import Size


def small(*nodes: Node, outputs: tuple[str, ...] = ("y",)) -> Graph:
    return Graph(
        nodes=nodes,
        inputs=("x",),
        input_shapes=((2, 6),),
        input_dtypes=("float32",),
        outputs=outputs,
        output_keys=tuple(str(i) for i in range(len(outputs))),
    )


def relu(name: str, source: str) -> Node:
    return Node(name=name, op="aten.relu.default", args=(Ref(source),), shape=(2, 6))


def test_json_gives_an_equal_graph_back(
    captured: Callable[[str], Captured], zoo_name: str
) -> None:
    graph = captured(zoo_name).graph
    assert from_json(json.loads(json.dumps(to_json(graph)))) == graph


def test_json_keeps_infinities_types_and_batches() -> None:
    args = (Ref("x"), float("-inf"), torch.int64, (Size.of_batch(2), -1), None, True)
    graph = small(Node(name="y", op="aten.clamp.default", args=args, shape=(2, 6)))
    text = json.dumps(to_json(graph), allow_nan=False)
    assert from_json(json.loads(text)) == graph


def test_a_graph_with_a_foreign_operator_is_not_read() -> None:
    data = to_json(small(Node(name="y", op="os.system", args=("true",), shape=())))
    with pytest.raises(GraphError, match=r"os\.system.*is not allowed"):
        from_json(data)


def test_dead_code_goes_and_order_stays() -> None:
    graph = small(relu("a", "x"), relu("dead", "a"), relu("deader", "dead"), relu("y", "a"))
    assert [node.name for node in prune_dead(graph).nodes] == ["a", "y"]


def test_a_batch_argument_follows_the_inputs() -> None:
    view = Node(
        name="y", op="aten.view.default", args=(Ref("x"), (Size.of_batch(3), 2)), shape=(6, 2)
    )
    for batch in (1, 2, 5):
        (y,) = run(small(view), {}, [torch.zeros(batch, 6)])
        assert y.shape == (3 * batch, 2)


def test_renaming_reaches_nested_arguments_only_by_whole_name() -> None:
    args = ((Ref("a"), Ref("ab")), Ref("a"), "a")
    assert rename_value(args, "a", "b") == ((Ref("b"), Ref("ab")), Ref("b"), "a")


def test_a_value_may_be_several_outputs() -> None:
    graph = small(relu("a", "x"), relu("y", "a"), outputs=("y", "a", "x"))
    x = torch.tensor([[-1.0, 1, 2, 3, 4, 5]])
    y, a, same = run(graph, {}, [x])
    assert torch.equal(y, a)
    assert torch.equal(same, x)


def test_users_and_tensor_names_are_in_order_of_use(captured: Callable[[str], Captured]) -> None:
    graph = captured("lenet").graph
    names = ["conv1", "conv2", "fc1", "fc2", "fc3"]
    assert list(graph.tensor_names()) == [f"{n}.{t}" for n in names for t in ("weight", "bias")]
    assert [user.name for user in graph.users["conv1.weight"]] == [graph.nodes[0].name]


def test_shapes_are_those_of_the_example(captured: Callable[[str], Captured]) -> None:
    graph = captured("lenet").graph
    assert graph.batch_size == 1
    assert graph.shape_of("x") == (1, 1, 20, 20)
    assert graph.shape_of(graph.outputs[0]) == (1, 10)


def test_with_arg_replaces_one_argument() -> None:
    node = Node(name="y", op="aten.add.Tensor", args=(Ref("a"), Ref("b")), shape=())
    assert node.with_arg(1, 3).args == (Ref("a"), 3)
    assert node == replace(node.with_arg(1, 3), args=node.args)
