"""A plan: short names that are free, constants stored once, and sizes before there are bytes."""

import math

import numpy as np
import pytest
import torch
from onnx import TensorProto, numpy_helper

from paredown.compressors.onnx.plan import ExportError, Initialiser, Plan, PlanBuilder, onnx_type


def test_names_are_as_short_as_can_be_and_none_is_taken_twice():
    plan = PlanBuilder(taken=frozenset({"a", "c", "aa"}))
    names = [plan.new_name() for _ in range(62 + 62**2)]
    assert len(set(names)) == len(names)
    assert not {"a", "c", "aa"} & set(names)
    assert [len(name) for name in names] == sorted(len(name) for name in names)
    assert sum(len(name) == 1 for name in names) == 60
    assert sum(len(name) == 2 for name in names) == 62**2 - 1


def test_a_node_is_written_down_with_its_outputs():
    plan = PlanBuilder(taken=frozenset())
    one = plan.emit("Relu", "x")
    first, second = plan.emit_many("Split", (one, "sizes"), 2, axis=1)
    relu, split = plan.nodes
    assert (relu.op_type, relu.inputs, relu.outputs, relu.attributes) == (
        "Relu",
        ("x",),
        (one,),
        (),
    )
    assert (split.inputs, split.outputs) == ((one, "sizes"), (first, second))
    assert dict(split.attributes) == {"axis": 1}


def test_equal_constants_are_one_and_those_of_other_types_or_shapes_are_not():
    plan = PlanBuilder(taken=frozenset())
    assert plan.integers((1, 2)) == plan.integers((1, 2))
    assert plan.floats(0.5) == plan.number(0.5, "float32")
    different = [
        plan.integers((1,)),
        plan.integer(1),
        plan.floats(1.0),
        plan.floats(np.ones(1, np.float32)),
        plan.number(1, "int32"),
        plan.number(1, "bool"),
        plan.floats(0.0),
        plan.floats(-0.0),
    ]
    assert len(set(different)) == len(different)


def test_the_bytes_of_a_constant_are_those_of_onnx():
    plan = PlanBuilder(taken=frozenset())
    plan.integers((3, -1))
    plan.floats(np.array([[0.5, -2.0]]))
    for made, wanted in zip(
        plan.initialisers,
        (np.array([3, -1]), np.array([[0.5, -2.0]], np.float32)),
        strict=True,
    ):
        proto = numpy_helper.from_array(wanted)
        assert (made.data_type, made.dims) == (proto.data_type, tuple(proto.dims))
        assert made.payload({}) == proto.raw_data
        assert made.payload_bytes == len(proto.raw_data)


@pytest.mark.parametrize(
    ("data_type", "bits"),
    [
        (TensorProto.INT2, 2),
        (TensorProto.INT4, 4),
        (TensorProto.INT8, 8),
        (TensorProto.FLOAT16, 16),
        (TensorProto.FLOAT, 32),
        (TensorProto.INT64, 64),
        (TensorProto.BOOL, 8),
    ],
)
def test_values_of_few_bits_are_packed_and_the_last_byte_is_filled_up(data_type, bits):
    for dims in ((), (3,), (5, 7), (0, 4)):
        made = Initialiser(name="a", data_type=data_type, dims=dims, payload=lambda _: b"")
        assert made.payload_bytes == -(-math.prod(dims) * bits // 8)


def test_only_a_file_of_two_bit_integers_needs_their_opset():
    def plan_of(data_type):
        tensor = Initialiser(name="a", data_type=data_type, dims=(4,), payload=lambda _: b"")
        return Plan(nodes=(), initialisers=(tensor,), inputs=(), outputs=())

    assert (plan_of(TensorProto.INT4).opset, plan_of(TensorProto.INT4).ir_version) == (21, 10)
    assert (plan_of(TensorProto.INT2).opset, plan_of(TensorProto.INT2).ir_version) == (25, 13)


def test_types_are_those_of_onnx_and_others_are_refused():
    for dtype in ("bool", "uint8", "int64", "float16", "float32", "float64"):
        value = numpy_helper.from_array(torch.zeros(1, dtype=getattr(torch, dtype)).numpy())
        assert onnx_type(dtype) == value.data_type
    with pytest.raises(ExportError, match="complex64"):
        onnx_type("complex64")
