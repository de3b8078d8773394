"""Outputs of a graph are the tensors that follow the batch, under their places in what came back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paredown.spaces.capture.capturing import Captured, CaptureError, capture


class Returns(nn.Module):
    """A layer, and whatever is made of its result."""

    def __init__(self, made: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.made = made

    def forward(self, x: Tensor) -> Any:
        return self.made(self.layer(x))


def test_dict_outputs_keep_their_keys(captured: Callable[[str], Captured]) -> None:
    graph = captured("two_outputs").graph
    assert graph.output_keys == ("classes", "box")
    assert [graph.shape_of(name)[1] for name in graph.outputs] == [10, 4]
    assert captured("lenet").graph.output_keys == ("",)


@pytest.mark.parametrize(
    ("made", "keys"),
    [
        (lambda y: y, ("",)),
        (lambda y: (y, y.relu()), ("0", "1")),
        (lambda y: {"a": y, "b": [y.relu(), y.tanh()]}, ("a", "b.0", "b.1")),
        (lambda y: (y, None, 3), ("0",)),
    ],
)
def test_constants_beside_the_outputs_are_none(
    made: Callable[[Tensor], Any], keys: tuple[str, ...]
) -> None:
    graph = capture(Returns(made), torch.randn(2, 3)).graph
    assert graph.output_keys == keys
    assert all(graph.shape_of(name) == (2, 4) for name in graph.outputs)


def test_a_module_that_returns_no_batch_is_refused_with_the_remedy() -> None:
    with pytest.raises(CaptureError, match="return the logits"):
        capture(Returns(lambda y: {"loss": y.mean()}), torch.randn(2, 3))
