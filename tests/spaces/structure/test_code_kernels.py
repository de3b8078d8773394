"""What ONNX Runtime does with the codes that a node reads."""

from __future__ import annotations

import pytest

from paredown.spaces.graph.graph import Graph, Node, Ref
from paredown.spaces.graph.names import ADD, CONV2D, MEAN, RELU, VIEW
from paredown.spaces.graph.operators import OPERATORS
from paredown.spaces.structure.code_kernels import (
    clamps_codes,
    has_code_kernel,
    is_global_pool,
    multiplies,
    operands,
    reads_values_alone,
    turns_codes_into_codes,
)


def node(op: str, *args: object, shape: tuple[int, ...] = (1, 4, 1, 1)) -> Node:
    return Node(name="y", op=op, args=args, shape=shape)


@pytest.mark.parametrize(
    ("dims", "keep", "shape", "expected"),
    [
        ((2, 3), True, (1, 4, 1, 1), True),
        ((-1, -2), True, (1, 4, 1, 1), True),
        ((2,), True, (1, 4, 1), True),
        ((2, 3), False, (1, 4), False),
        ((1, 2, 3), True, (1, 1, 1, 1), False),
        (None, True, (1, 1, 1, 1), False),
        ((1,), True, (1, 1), False),
    ],
)
def test_a_global_pool_is_a_mean_over_all_positions(dims, keep, shape, expected) -> None:
    mean = node(MEAN, Ref("x"), dims, keep, shape=shape)
    assert is_global_pool(mean) == has_code_kernel(mean) == expected


def test_no_other_operator_is_a_global_pool() -> None:
    assert not is_global_pool(node("aten.sum.dim_IntList", Ref("x"), (2, 3), True))


@pytest.mark.parametrize(
    ("op", "bounds", "expected"),
    [
        (RELU, (), True),
        ("aten.relu6.default", (), True),
        ("aten.hardtanh.default", (-1, 1), False),
        ("aten.hardtanh.default", (0, 1), True),
        ("aten.clamp.default", (0.0, None), True),
        ("aten.clamp.default", (None, 6.0), False),
        ("aten.clamp.default", (1.0, 6.0), False),
        ("aten.clamp_min.default", (0,), True),
        ("aten.sigmoid.default", (), False),
    ],
)
def test_a_clamp_of_codes_starts_at_zero(op, bounds, expected) -> None:
    assert clamps_codes(node(op, Ref("x"), *bounds)) == expected


@pytest.mark.parametrize("op", [op for op in OPERATORS if op != MEAN])
def test_products_have_kernels_of_their_own(op: str) -> None:
    each = node(op, Ref("x"), 0)
    if multiplies(each):
        assert each.facts.integer_kernel is not None
        assert not has_code_kernel(each)
    assert turns_codes_into_codes(each) >= each.facts.moves_data


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (node(ADD, Ref("x"), Ref("w"), 1), (Ref("x"), Ref("w"))),
        (node("aten.cat.default", (Ref("x"), Ref("w"), Ref("z")), 1), tuple(map(Ref, "xwz"))),
        (node(VIEW, Ref("x"), (4,)), (Ref("x"),)),
        (node(CONV2D, Ref("x"), Ref("w")), (Ref("x"),)),
    ],
)
def test_operands_are_what_an_operator_computes_on(given, expected) -> None:
    assert operands(given) == expected


def test_a_stored_tensor_or_a_number_is_no_value() -> None:
    graph = Graph(
        nodes=(),
        inputs=("x", "z"),
        input_shapes=((1,), (1,)),
        input_dtypes=("float32", "float32"),
        outputs=(),
        output_keys=(),
    )
    assert reads_values_alone(graph, node(ADD, Ref("x"), Ref("z"), 1))
    assert not reads_values_alone(graph, node(ADD, Ref("x"), Ref("w"), 1))
    assert not reads_values_alone(graph, node(ADD, Ref("x"), 2.0, 1))
