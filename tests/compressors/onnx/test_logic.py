"""Comparisons, logic and places: ONNX Runtime gives what torch gives, in values and types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

X = torch.tensor([[0.5, -1.5, 2.0, -0.0], [3.25, 2.0, -7.5, 1.0], [0.5, 0.25, -4.0, 2.0]])
N = torch.tensor([[0, 3, -5, 2], [7, -2, 1, 0], [4, 4, -1, 9]])

Function = Callable[..., Tensor]


class Of(nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, n: Tensor) -> Tensor:
        return self.function(x, n)


def _places(x: Tensor, n: Tensor) -> Tensor:
    return x[torch.arange(x.shape[0])[:, None], n.abs() % 4]


CASES: dict[str, Function] = {
    "less": lambda x, n: x < 2,
    "at_most": lambda x, n: x <= x.flip(1),
    "greater": lambda x, n: n > 2,
    "at_least": lambda x, n: n >= 1.5,
    "mixed": lambda x, n: x > n,
    "equal": lambda x, n: n == 4,
    "unequal": lambda x, n: x != 2.0,
    "truth_order": lambda x, n: (x > 0) < (n > 0),
    "and": lambda x, n: (x > 0) & (n > 0),
    "or": lambda x, n: (x > 0) | (n > 0),
    "exclusive_or": lambda x, n: (x > 0) ^ (n > 0),
    "not": lambda x, n: ~(x > 0),
    "bits": lambda x, n: (n & 6) | 1,
    "inverted_bits": lambda x, n: ~n,
    "logical": lambda x, n: torch.logical_and(x, n),
    "logical_or": lambda x, n: torch.logical_or(x > 1, n),
    "logical_not": lambda x, n: torch.logical_not(n),
    "where": lambda x, n: torch.where(n > 0, x, x * 2),
    "where_number": lambda x, n: torch.where(n > 0, x, -1),
    "masked_fill": lambda x, n: x.masked_fill(n > 2, -torch.inf),
    "gather": lambda x, n: x.gather(1, n.abs() % 4),
    "gather_fewer": lambda x, n: x.gather(1, n[:, :2].abs() % 4),
    "index": _places,
    "index_one": lambda x, n: x[:, n[0].abs() % 4],
    "index_later": lambda x, n: x[:, None].expand(-1, 2, 4)[
        :, n[:, 0].abs() % 2, n[:, 1].abs() % 4
    ],
    "index_apart": lambda x, n: x[:, None].expand(-1, 2, 4)[
        n[:, 0].abs() % 3, :, n[:, 1].abs() % 4
    ],
    "index_select": lambda x, n: x.index_select(1, torch.tensor([2, 0, 2])),
    "cumsum": lambda x, n: x.cumsum(1),
    "cumsum_of_truth": lambda x, n: (n > 0).cumsum(-1),
    "roll": lambda x, n: x.roll((1, -2), (0, 1)),
    "repeat": lambda x, n: x.repeat(1, 2),
    "repeat_wider": lambda x, n: x[:, None].repeat(1, 2, 3),
    "arange": lambda x, n: x + torch.arange(x.shape[0])[:, None],
    "full": lambda x, n: torch.full((x.shape[0], 4), 2.5) * x,
    "full_like": lambda x, n: torch.full_like(x, 3) + n,
    "variance": lambda x, n: x.var(1),
    "variance_of_all": lambda x, n: x.var(1, correction=0, keepdim=True),
    "deviation": lambda x, n: x.std(1),
    "sine": lambda x, n: x.sin() + x.cos(),
    "rounded": lambda x, n: x.ceil() + x.floor() * 10 + x.round() * 100,
    "sign": lambda x, n: x.sign(),
    "floor_quotient": lambda x, n: torch.div(n, 3, rounding_mode="floor"),
    "cut_quotient": lambda x, n: torch.div(n, 3, rounding_mode="trunc"),
    "float_quotient": lambda x, n: torch.div(x, 0.75, rounding_mode="floor"),
    "remainder": lambda x, n: x % 1.5,
    "whole_remainder": lambda x, n: n % -4,
    "power": lambda x, n: x.abs() ** n.abs(),
    "gelu_by_tanh": lambda x, n: nn.functional.gelu(x, approximate="tanh"),
    "add_scaled": lambda x, n: torch.add(x, n, alpha=2),
    "clone_of_type": lambda x, n: n.type_as(x) + x.new_ones(4),
}


@pytest.mark.parametrize("name", CASES)
def test_onnx_runtime_gives_what_torch_gives(name: str, identity: Any, run_onnx: Any) -> None:
    module = Of(CASES[name])
    (found,), (ours,) = run_onnx(identity(module, (X, N)), (X, N))
    wanted = module(X, N)
    for each in (ours, found):
        assert each.dtype == wanted.dtype
        torch.testing.assert_close(each, wanted)


class Attention(nn.Module):
    def __init__(self, **how: Any) -> None:
        super().__init__()
        self.how = how

    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(q, k, k, **self.how)


@pytest.mark.parametrize(
    "how", [{"scale": 0.3}, {"enable_gqa": True}, {"enable_gqa": True, "is_causal": True}]
)
def test_attention_has_its_scale_and_shared_heads(how: Any, identity: Any, run_onnx: Any) -> None:
    heads = 2 if "enable_gqa" in how else 4
    inputs = torch.randn(2, 4, 5, 8), torch.randn(2, heads, 5, 8)
    (found,), (ours,) = run_onnx(identity(Attention(**how), inputs), inputs)
    torch.testing.assert_close(found, Attention(**how)(*inputs), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours, Attention(**how)(*inputs), atol=1e-5, rtol=1e-4)
