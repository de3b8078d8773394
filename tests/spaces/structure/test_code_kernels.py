"""What operators do with 8-bit codes: which mean is a pooling, and on what an operator computes."""

import pytest
import torch
from torch import nn

from paredown.spaces.graph.capturing import capture
from paredown.spaces.graph.graph import Ref
from paredown.spaces.structure.code_kernels import is_global_pool, operands, reads_values_alone


class Of(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, x, y):
        return self.function(self, x, y)


def last(function, shape=(2, 4, 6, 6)):
    """The graph of `function` of two inputs, and its last node."""
    torch.manual_seed(0)
    graph = capture(Of(function), (torch.randn(shape), torch.randn(shape))).graph
    return graph, graph.by_name[graph.outputs[0]]


@pytest.mark.parametrize(
    ("shape", "axes", "keep", "is_pool"),
    [
        ((2, 4, 6, 6), (2, 3), True, True),
        ((2, 4, 6, 6), (-1, -2), True, True),
        ((2, 4, 6), (2,), True, True),
        ((2, 4, 6, 6), (2, 3), False, False),
        ((2, 4, 6, 6), (3,), True, False),
        ((2, 4, 6, 6), (1, 2, 3), True, False),
        ((2, 4), (1,), True, False),
    ],
)
def test_a_mean_over_all_positions_is_a_pooling(shape, axes, keep, is_pool):
    _, node = last(lambda own, x, y: (x + y).mean(axes, keepdim=keep), shape)
    assert is_global_pool(node) is is_pool


def test_only_a_mean_is_a_global_pooling():
    _, node = last(lambda own, x, y: (x + y).sum((2, 3), keepdim=True))
    assert not is_global_pool(node)


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (lambda own, x, y: x + y, ["x", "y"]),
        (lambda own, x, y: x * y, ["x", "y"]),
        (lambda own, x, y: torch.cat([y, x, y], 1), ["y", "x", "y"]),
        (lambda own, x, y: x @ y, ["x", "y"]),
        (lambda own, x, y: torch.sigmoid(y), ["y"]),
        (lambda own, x, y: nn.functional.avg_pool2d(x, 2), ["x"]),
    ],
)
def test_operands_are_what_is_computed_on(function, names):
    graph, node = last(function)
    assert operands(node) == tuple(Ref(name) for name in names)
    assert reads_values_alone(graph, node)


def test_a_tensor_of_the_model_is_no_value():
    graph, node = last(lambda own, x, y: x * own.weight, (2, 4))
    assert not reads_values_alone(graph, node)
