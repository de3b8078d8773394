"""Pools, reductions and attention in ONNX: the leanest operator that gives what torch gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paredown.compressors.onnx.lowering import lower
from paredown.compressors.onnx.plan import ExportError
from paredown.compressors.onnx.pools import window, window_attributes


class Of(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


@pytest.mark.parametrize(
    ("value", "rank", "sizes"),
    [(3, 2, (3, 3)), ((3,), 2, (3, 3)), ((3, 1), 2, (3, 1)), (2, 1, (2,)), ((), 0, ())],
)
def test_a_window_has_a_size_for_each_dimension(value: Any, rank: int, sizes: Any) -> None:
    assert window(value, rank) == sizes


def test_what_is_onnx_s_default_is_not_written() -> None:
    assert window_attributes((3, 3), (1, 1), (0, 0)) == {"kernel_shape": (3, 3)}
    found = window_attributes((3, 5), (2, 1), (1, 2))
    # ONNX has the pads before all dimensions, then those after them.
    assert found == {"kernel_shape": (3, 5), "strides": (2, 1), "pads": (1, 2, 1, 2)}
    assert window_attributes((3,), (1,), (0, 1))["pads"] == (0, 1)


def nodes_of(model: Any) -> list[str]:
    return [node.op_type for node in lower(model).graph.node]


@pytest.mark.parametrize(
    ("function", "ops"),
    [
        (lambda x: x.mean((2, 3), keepdim=True), ["GlobalAveragePool"]),
        (lambda x: x.mean((-1, -2)), ["GlobalAveragePool", "Flatten"]),
        (lambda x: F.adaptive_avg_pool2d(x, 1), ["GlobalAveragePool"]),
        (lambda x: F.avg_pool2d(x, 8), ["GlobalAveragePool"]),
        (lambda x: F.avg_pool2d(x, 4), ["AveragePool"]),
        (lambda x: F.adaptive_avg_pool2d(x, 2), ["AveragePool"]),
        (lambda x: x.mean(1), ["ReduceMean"]),
        (lambda x: x.sum((2, 3)), ["ReduceSum"]),
        # Over everything: not a pooling of each channel.
        (lambda x: x + x.mean(), ["ReduceMean", "Add"]),
        (lambda x: F.max_pool2d(x, 2), ["MaxPool"]),
    ],
)
def test_each_pooling_is_one_operator_and_gives_what_torch_gives(
    function: Callable[[Tensor], Tensor], ops: list[str], identity: Any, run_onnx: Any
) -> None:
    x = torch.randn(2, 4, 8, 8)
    model = identity(Of(function), x)
    assert nodes_of(model) == ops
    (found,), _ = run_onnx(model, x)
    torch.testing.assert_close(found, function(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: F.adaptive_avg_pool2d(x, 3), "does not divide"),
        (lambda x: F.avg_pool2d(x, 2, divisor_override=3), "divisor_override=3"),
    ],
)
def test_what_onnx_has_no_pooling_for_is_refused(
    function: Callable[[Tensor], Tensor], reason: str, identity: Any
) -> None:
    with pytest.raises(ExportError, match=reason):
        lower(identity(Of(function), torch.randn(2, 4, 8, 8)))


def test_a_row_that_is_masked_as_a_whole_gives_zeros(identity: Any, run_onnx: Any) -> None:
    mask = torch.zeros(4, 5)
    mask[1] = -torch.inf
    mask[2, 3:] = -torch.inf
    inputs = {name: torch.randn(2, n, 8) for name, n in (("q", 4), ("k", 5), ("v", 5))}

    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mask", mask)

        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(q, k, v, self.mask)

    (found,), _ = run_onnx(identity(Masked(), inputs), inputs)
    scores = inputs["q"] @ inputs["k"].transpose(1, 2) / 8**0.5 + mask
    wanted = scores.softmax(-1).nan_to_num(0.0) @ inputs["v"]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert not found[:, 1].any()


def test_a_causal_attention_reads_nothing_of_the_future(identity: Any, run_onnx: Any) -> None:
    x = torch.randn(2, 6, 8)
    module = Of(lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True))
    model = identity(module, x)
    (found,), _ = run_onnx(model, x)
    later = x.clone()
    later[:, 3:] = 0.0
    (cut,), _ = run_onnx(model, later)
    torch.testing.assert_close(cut[:, :3], found[:, :3])
    assert not torch.allclose(cut[:, 3:], found[:, 3:])
