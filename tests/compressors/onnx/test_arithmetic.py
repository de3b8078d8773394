"""Arithmetic and activations in ONNX: in the type that torch gives, at the edges of what they take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paredown.compressors.onnx.lowering import lower
from paredown.compressors.onnx.plan import ExportError


class Of(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, y: Tensor) -> Any:
        return self.function(x, y)


def given(dtype: torch.dtype) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    if dtype == torch.bool:
        return {n: torch.rand(2, 9, generator=generator) > 0.5 for n in "xy"}
    if dtype.is_floating_point:
        return {n: 4 * torch.randn(2, 9, generator=generator).to(dtype) for n in "xy"}
    low = 0 if dtype == torch.uint8 else -100
    return {n: torch.randint(low, 120, (2, 9), generator=generator).to(dtype) for n in "xy"}


NUMBERS: dict[str, Callable[..., Tensor]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "max": torch.maximum,
    "min": torch.minimum,
    "rsub": lambda x, y: torch.rsub(x, 5, alpha=2) + y,
}


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.int64, torch.int32, torch.int8, torch.uint8]
)
def test_whole_numbers_wrap_and_keep_their_type_as_in_torch(
    dtype: torch.dtype, identity: Any, run_onnx: Any
) -> None:
    inputs = given(dtype)
    together = Of(lambda x, y: {name: function(x, y) for name, function in NUMBERS.items()})
    model = identity(together, inputs)
    found, _ = run_onnx(model, inputs)
    assert model.blueprint.graph.output_keys == tuple(NUMBERS)
    for ours, theirs in zip(NUMBERS.values(), found, strict=True):
        wanted = ours(inputs["x"], inputs["y"])
        assert theirs.dtype == wanted.dtype
        torch.testing.assert_close(theirs, wanted)


@pytest.mark.parametrize(
    ("function", "op"),
    [
        (lambda x, y: x + y, "Or"),
        (lambda x, y: x * y, "And"),
        (lambda x, y: torch.maximum(x, y), "Or"),
        (lambda x, y: torch.minimum(x, y), "And"),
    ],
)
def test_of_truth_values_arithmetic_is_logic(
    function: Callable[..., Tensor], op: str, identity: Any, run_onnx: Any
) -> None:
    inputs = given(torch.bool)
    model = identity(Of(function), inputs)
    assert op in [node.op_type for node in lower(model).graph.node]
    (found,), _ = run_onnx(model, inputs)
    assert torch.equal(found, function(**inputs))


EDGES = torch.tensor([[-200.0, -20.0, -6.0, -1.0, -1e-6, 0.0, 1e-6, 1.0, 6.0, 20.0, 200.0]])


ACTIVATIONS: tuple[Callable[[Tensor], Tensor], ...] = (
    F.relu6,
    F.hardtanh,
    F.hardswish,
    F.hardsigmoid,
    F.softplus,
    lambda x: F.softplus(x, beta=0.5, threshold=3.0),
    lambda x: F.softplus(x, beta=3.0),
    F.mish,
    F.silu,
    F.gelu,
    lambda x: F.leaky_relu(x, 0.2),
    lambda x: F.elu(x, 0.7),
    torch.sigmoid,
    torch.tanh,
    lambda x: x.clamp(max=2.0),
    lambda x: x.clamp(min=-2.0),
    lambda x: torch.rsqrt(x.abs() + 1),
    lambda x: F.softmax(x, -1),
    lambda x: F.log_softmax(x, -1),
)


def test_activations_at_their_edges(identity: Any, run_onnx: Any) -> None:
    inputs = {"x": EDGES, "y": EDGES}
    together = Of(lambda x, y: tuple(function(x + 0 * y) for function in ACTIVATIONS))
    found, _ = run_onnx(identity(together, inputs), inputs)
    for ours, theirs in zip(ACTIVATIONS, found, strict=True):
        torch.testing.assert_close(theirs, ours(EDGES), rtol=1e-5, atol=1e-6)


def test_a_scaled_elu_has_no_operator_and_is_refused(identity: Any) -> None:
    scaled = Of(lambda x, y: torch.ops.aten.elu(x, 1.0, 2.0) + y)
    with pytest.raises(ExportError, match=r"aten\.elu\.default .* has no ONNX lowering"):
        lower(identity(scaled, given(torch.float32)))
