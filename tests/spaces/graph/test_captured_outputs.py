"""Which values that a module returns are outputs, and under which names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from paredown.spaces.graph.capturing import Captured, capture
from paredown.spaces.graph.graph import run


def test_dict_outputs_keep_their_keys(captured: Callable[[str], Captured]) -> None:
    graph = captured("two_outputs").graph
    assert graph.output_keys == ("classes", "box")
    assert [graph.shape_of(name)[1] for name in graph.outputs] == [10, 4]
    assert captured("lenet").graph.output_keys == ("",)


class Returns(nn.Module):
    """A module that returns what it is made with, from its input and twice that."""

    def __init__(self, form: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.form = form
        self.bias = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Any:
        return self.form(x + self.bias, 2 * x)


@pytest.mark.parametrize(
    ("form", "keys"),
    [
        (lambda a, b: a, ("",)),
        (lambda a, b: (a, b), ("0", "1")),
        (lambda a, b: {"one": a, "two": [b, a]}, ("one", "two.0", "two.1")),
        # What is no tensor is no output, though it stands between them.
        (lambda a, b: (a, None, 3.0, "add", b), ("0", "4")),
        # Nor is a value without rows.
        (lambda a, b: {"rows": a, "mean": b.mean()}, ("rows",)),
        (lambda a, b: {"rows": a, "sums": b.sum(0)}, ("rows",)),
    ],
)
def test_outputs_are_the_tensors_with_rows_in_the_order_they_are_returned(
    form: Callable[[Tensor, Tensor], Any], keys: tuple[str, ...]
) -> None:
    module = Returns(form).eval()
    x = torch.randn(5, 3)
    captured = capture(module, x)
    assert captured.graph.output_keys == keys
    found = run(captured.graph, captured.tensors, (x,))
    with torch.no_grad():
        returned = pytree.tree_leaves(module(x))
    wanted = [value for value in returned if isinstance(value, Tensor) and value.shape[:1] == (5,)]
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_a_parameter_that_is_returned_as_it_is_is_no_output() -> None:
    class Reveals(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.weight, x * self.weight

    assert capture(Reveals().eval(), torch.randn(2, 3)).graph.output_keys == ("1",)
