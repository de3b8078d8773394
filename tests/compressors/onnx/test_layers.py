"""Layers in ONNX: the operator that the runtime has the best kernel for, and torch's own padding."""

from __future__ import annotations

from typing import Any

import onnx
import pytest
import torch
from torch import nn

from paredown.compressors.onnx.lowering import lower
from paredown.compressors.onnx.plan import ExportError


def attributes_of(model: Any, op_type: str) -> dict[str, Any]:
    (node,) = [n for n in lower(model).graph.node if n.op_type == op_type]
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


@pytest.mark.parametrize(
    ("layer", "written"),
    [
        (nn.Conv2d(4, 6, 3), {}),
        (nn.Conv2d(4, 6, 3, stride=2), {"strides": [2, 2]}),
        (nn.Conv2d(4, 6, 3, padding=(1, 2)), {"pads": [1, 2, 1, 2]}),
        (nn.Conv2d(4, 6, 3, groups=2, dilation=2), {"group": 2, "dilations": [2, 2]}),
        # Of an odd total torch puts the extra one after.
        (nn.Conv2d(4, 6, (4, 1), padding="same"), {"pads": [1, 0, 2, 0]}),
        (nn.Conv2d(4, 6, 3, padding="valid"), {}),
    ],
)
def test_a_convolution_is_written_without_what_is_the_default(
    layer: nn.Module, written: dict[str, Any], identity: Any, run_onnx: Any
) -> None:
    x = torch.randn(2, 4, 9, 9)
    model = identity(layer, x)
    assert attributes_of(model, "Conv") == written
    (found,), _ = run_onnx(model, x)
    torch.testing.assert_close(found, layer(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("more", [0, 1, 2])
def test_a_transposed_convolution_of_any_output_padding_has_torchs_size(
    more: int, identity: Any, run_onnx: Any
) -> None:
    # ONNX Runtime extends an output by less than a step; with a dilation torch takes more.
    layer = nn.ConvTranspose2d(4, 6, 3, stride=2, padding=2, output_padding=more, dilation=3)
    x = torch.randn(2, 4, 5, 5)
    model = identity(layer, x)
    assert ("output_padding" in attributes_of(model, "ConvTranspose")) == (more == 1)
    (found,), _ = run_onnx(model, x)
    torch.testing.assert_close(found, layer(x), rtol=1e-4, atol=1e-5)


def test_rows_are_a_gemm_and_sequences_a_product(identity: Any, run_onnx: Any) -> None:
    layer = nn.Linear(8, 3)
    rows, tokens = torch.randn(5, 8), torch.randn(2, 5, 8)
    assert attributes_of(identity(layer, rows), "Gemm") == {"transB": 1}
    model = identity(layer, tokens)
    assert [n.op_type for n in lower(model).graph.node] == ["MatMul", "Add"]
    (found,), _ = run_onnx(model, tokens)
    torch.testing.assert_close(found, layer(tokens), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("norm", "op_type"),
    [
        (nn.LayerNorm(9), "LayerNormalization"),
        (nn.LayerNorm((9, 9), elementwise_affine=False), "LayerNormalization"),
        (nn.GroupNorm(2, 4, affine=False), "GroupNormalization"),
        (nn.InstanceNorm2d(4), "InstanceNormalization"),
        (nn.BatchNorm2d(4, affine=False), "BatchNormalization"),
        (nn.PReLU(4), "PRelu"),
        (nn.PReLU(), "PRelu"),
    ],
    ids=str,
)
def test_norms_without_weights_get_ones_and_zeros(
    norm: nn.Module, op_type: str, identity: Any, run_onnx: Any
) -> None:
    norm = norm.eval()
    x = 3 * torch.randn(2, 4, 9, 9) + 1
    model = identity(norm, x)
    assert [n.op_type for n in lower(model).graph.node] == [op_type]
    (found,), _ = run_onnx(model, x)
    torch.testing.assert_close(found, norm(x), rtol=1e-4, atol=1e-5)


def test_statistics_of_training_in_an_instance_norm_are_refused(identity: Any) -> None:
    norm = nn.InstanceNorm2d(4, track_running_stats=True).eval()
    with pytest.raises(ExportError, match="running statistics"):
        lower(identity(norm, torch.randn(2, 4, 9, 9)))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.uint8])
def test_an_embedding_takes_indices_of_any_type(
    dtype: torch.dtype, identity: Any, run_onnx: Any
) -> None:
    class Lookup(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(10, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.table(x if x.dtype != torch.uint8 else x.long())

    module = Lookup()
    index = torch.tensor([[3, 0, 9]]).to(dtype)
    (found,), _ = run_onnx(identity(module, index), index)
    assert torch.equal(found, module(index))
