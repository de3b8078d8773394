"""What an ONNX file holds of a stored tensor: each once, codes in their container, biases as int32."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor, nn

from paredown.compressors.models.codes import fit_biases
from paredown.compressors.onnx.lowering import lower


class Shared(nn.Module):
    """One weight and one constant that are read twice."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(torch.relu(self.linear(x)) + 0.5) * 0.5


def initialisers(proto: onnx.ModelProto) -> dict[str, Any]:
    return {each.name: each for each in proto.graph.initializer}


def test_what_is_read_twice_lies_in_the_file_once(identity: Any) -> None:
    proto = lower(identity(Shared(), torch.randn(2, 6)))
    sizes = sorted(tuple(each.dims) for each in proto.graph.initializer)
    assert sizes == [(), (6,), (6, 6)]
    gemms = [node for node in proto.graph.node if node.op_type == "Gemm"]
    assert gemms[0].input[1:] == gemms[1].input[1:]


@pytest.mark.parametrize(
    ("bits", "container", "kind"),
    [
        (8, "int8", TensorProto.INT8),
        (3, "int8", TensorProto.INT8),
        (4, "int4", TensorProto.INT4),
        (2, "int2", TensorProto.INT2),
        (4, "float32", TensorProto.FLOAT),
    ],
)
def test_codes_lie_in_the_container_that_was_chosen(
    bits: int, container: str, kind: int, identity: Any, with_weights: Any
) -> None:
    model = with_weights(identity(nn.Conv2d(4, 6, 3), torch.randn(2, 4, 9, 9)), bits, container)
    proto = lower(model)
    (weight,) = [t for t in proto.graph.initializer if tuple(t.dims) == (6, 4, 3, 3)]
    assert weight.data_type == kind
    if kind != TensorProto.INT2:  # NumPy reads no two bits
        found = numpy_helper.to_array(weight).astype(np.float32)
        stored = model.stored["weight"]
        wanted = stored.dense() if container == "float32" else stored.values.float()
        assert np.array_equal(found, wanted.numpy())


def test_a_bias_beside_codes_is_int32_in_units_of_input_and_weight(
    identity: Any, with_weights: Any, with_codes: Any
) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(6, 5)
            self.second = nn.Linear(5, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(torch.relu(self.first(x)))

    x = torch.randn(3, 6)
    model = fit_biases(with_codes(with_weights(identity(Net(), x), 8, "int8"), x))
    proto = lower(model)
    tensors = initialisers(proto)
    made_by = {name: node for node in proto.graph.node for name in node.output}
    gemms = [node for node in proto.graph.node if node.op_type == "Gemm"]
    assert len(gemms) == 2
    for gemm, layer in zip(gemms, ("first", "second"), strict=True):
        codes, scale = (tensors[name] for name in made_by[gemm.input[2]].input)
        assert codes.data_type == TensorProto.INT32
        read = numpy_helper.to_array(codes).astype(np.float64) * numpy_helper.to_array(scale)
        wanted = model.stored[f"{layer}.bias"].dense().numpy()
        assert np.allclose(read, wanted, rtol=1e-6, atol=1e-9)
        source = made_by[gemm.input[0]]
        input_scale = numpy_helper.to_array(tensors[source.input[1]])
        product = input_scale * model.stored[f"{layer}.weight"].scale.numpy()
        assert np.allclose(numpy_helper.to_array(scale), product, rtol=1e-6)


def test_a_value_is_cast_once_however_often_it_is_wanted(identity: Any) -> None:
    class Mixed(nn.Module):
        def forward(self, x: Tensor, n: Tensor) -> Tensor:
            return x * n + x / n

    inputs = {"x": torch.randn(2, 3), "n": torch.ones(2, 3, dtype=torch.int64)}
    ops = [node.op_type for node in lower(identity(Mixed(), inputs)).graph.node]
    assert ops.count("Cast") == 1
    assert sorted(set(ops)) == ["Add", "Cast", "Div", "Mul"]
