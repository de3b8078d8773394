"""A plan stores equal constants once, under the shortest free names, and knows its own bytes."""

from __future__ import annotations

import pytest
from onnx import TensorProto

from paredown.compressors.onnx.plan import ExportError, Initialiser, Plan, PlanBuilder, onnx_type


def test_names_are_the_shortest_that_are_free() -> None:
    builder = PlanBuilder(taken=frozenset({"a", "c"}))
    names = [builder.new_name() for _ in range(200)]
    assert names[:2] == ["b", "d"]
    assert len(set(names)) == 200
    assert {"a", "c"}.isdisjoint(names)
    assert max(map(len, names)) == 2


def test_equal_constants_are_one_and_their_types_keep_them_apart() -> None:
    builder = PlanBuilder(taken=frozenset())
    assert builder.integers((1, 2)) == builder.integers((1, 2))
    assert builder.floats(1.0) == builder.number(1.0, "float32")
    assert len({builder.integer(1), builder.integers((1,)), builder.floats(1.0)}) == 3


@pytest.mark.parametrize(
    ("data_type", "expected"),
    [
        (TensorProto.INT2, 4),
        (TensorProto.INT4, 8),
        (TensorProto.INT8, 15),
        (TensorProto.FLOAT, 60),
    ],
)
def test_values_are_packed_to_the_bit(data_type: int, expected: int) -> None:
    tensor = Initialiser(name="a", data_type=data_type, dims=(3, 5), payload=lambda _: b"")
    assert tensor.payload_bytes == expected


@pytest.mark.parametrize(("data_type", "opset"), [(TensorProto.INT4, 21), (TensorProto.INT2, 25)])
def test_two_bits_need_a_younger_opset(data_type: int, opset: int) -> None:
    tensor = Initialiser(name="a", data_type=data_type, dims=(4,), payload=lambda _: b"")
    assert Plan(nodes=(), initialisers=(tensor,), inputs=(), outputs=()).opset == opset


def test_a_type_that_onnx_lacks_is_refused_with_those_it_has() -> None:
    with pytest.raises(ExportError, match=r"complex64.*float32"):
        onnx_type("complex64")
