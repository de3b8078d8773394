"""Rounding to codes and back agrees with torch where the scale is given, with ONNX where it is found."""

from __future__ import annotations

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor

from paredown.spaces.graph.functions import quantize_dequantize, quantize_dequantize_by_range


def test_quantize_dequantize_agrees_with_torch() -> None:
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0)) * 3
    expected = torch.fake_quantize_per_tensor_affine(x, 0.0175, 121, 0, 255)
    torch.testing.assert_close(quantize_dequantize(x, 0.0175, 121, 0, 255), expected)


def by_the_standard(x: Tensor) -> Tensor:
    """DynamicQuantizeLinear, then DequantizeLinear, by ONNX's reference implementation."""
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, x.shape) for n in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    onnx.checker.check_model(model)
    (found,) = ReferenceEvaluator(model).run(None, {"x": x.numpy()})
    return torch.from_numpy(found)


@pytest.mark.parametrize("shift", [0.0, -3.0, 5.0, -50.0])
def test_values_are_rounded_as_the_standard_says(shift):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 7, 11, generator=generator) * 2 + shift
    found = quantize_dequantize_by_range(x, 5)
    assert torch.allclose(found, by_the_standard(x), rtol=1e-6, atol=1e-6)
    low, high = min(0.0, float(x.min())), max(0.0, float(x.max()))
    assert float((found - x).abs().max()) <= (high - low) / 255  # half a step, and that of zero
    assert len(found.unique()) <= 256


def test_zeros_stay_zeros():
    assert torch.equal(quantize_dequantize_by_range(torch.zeros(3, 4), 1), torch.zeros(3, 4))


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 12])
def test_what_is_scored_together_is_rounded_as_it_is_run(rows):
    x = torch.randn(7, 4, generator=torch.Generator().manual_seed(1)) * torch.arange(1, 8)[:, None]
    pieces = [quantize_dequantize_by_range(piece, rows) for piece in x.split(rows)]
    assert torch.equal(quantize_dequantize_by_range(x, rows), torch.cat(pieces))
