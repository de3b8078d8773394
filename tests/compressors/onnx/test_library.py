"""Operators without a lowering of ours are written by the library, or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paredown.compressors.onnx.lowering import LOWERINGS, lower
from paredown.compressors.onnx.plan import ExportError
from paredown.compressors.onnx.sizes import onnx_file_bytes

Function = Callable[[Tensor], Any]


class Of(nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


CASES: dict[str, Function] = {
    "log1p": lambda x: x.abs().log1p(),
    "sinh": lambda x: x.sinh(),
    "atan": lambda x: x.atan(),
    "amax": lambda x: x.amax(1),
    "any": lambda x: (x > 0).any(1),
    "max_of_a_dimension": lambda x: x.max(1).values,
    "topk": lambda x: x.topk(2, dim=1).values,
    "sorted": lambda x: x.sort(dim=1).values,
    "scatter": lambda x: x.scatter(1, torch.zeros(x.shape[0], 1, dtype=torch.int64), 5.0),
    "prod": lambda x: x.prod(1),
    "flipped": lambda x: x.flip(1),
    "upper": lambda x: (x[:, :, None] * x[:, None]).triu(),
}


@pytest.mark.parametrize("name", CASES)
def test_the_library_writes_what_torch_computes(name: str, identity: Any, run_onnx: Any) -> None:
    module, x = Of(CASES[name]), torch.randn(3, 4)
    model = identity(module, x)
    (found,), _ = run_onnx(model, x)
    torch.testing.assert_close(found, module(x))
    assert onnx_file_bytes(model.blueprint) == len(lower(model).SerializeToString())


def test_these_cases_need_the_library(identity: Any) -> None:
    graphs = (
        identity(Of(function), torch.randn(3, 4)).blueprint.graph for function in CASES.values()
    )
    ours = [graph for graph in graphs if all(node.op in LOWERINGS for node in graph.nodes)]
    assert len(ours) <= 2


def test_an_operator_that_the_library_has_not_is_named(identity: Any) -> None:
    model = identity(
        Of(lambda x: torch.ops.aten._cdist_forward(x, x, 2.0, None)[:, :1]), torch.randn(3, 4)
    )
    with pytest.raises(ExportError, match=r"aten\._cdist_forward\.default.*no ONNX lowering"):
        lower(model)
