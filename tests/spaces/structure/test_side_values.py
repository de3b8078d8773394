"""Masks and constants are told from the path through the layers, whatever form they have."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paredown.spaces.capture.capturing import Captured, capture
from paredown.spaces.graph.graph import Graph, Node, Ref
from paredown.spaces.structure.side_values import constant_values, mask_values, masked_values


class Scored(nn.Module):
    """Scores that something is added to, behind a layer; `add` says what."""

    def __init__(self, add: str, far: float) -> None:
        super().__init__()
        self.layer, self.last = nn.Linear(4, 4), nn.Linear(4, 2)
        self.add, self.far = add, far
        self.register_buffer("causal", torch.full((3, 4), far).triu(1).nan_to_num(0.0, None, far))
        self.table = nn.Parameter(torch.full((8, 4), far))

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        x = self.layer(x)
        if self.add == "computed":
            x = x + (1 - real[:, :, None]) * self.far
        elif self.add == "given":
            x = x + real[:, :, None]
        elif self.add == "buffer":
            x = x + self.causal
        elif self.add == "slice":
            x = x - self.table[:3]
        else:
            x = x + self.far
        return self.last(torch.softmax(x, -1)) + real[:, :1, None]


def scored(add: str, far: float) -> Captured:
    return capture(Scored(add, far).eval(), (torch.randn(2, 3, 4), torch.ones(2, 3)))


def sums(captured: Captured) -> set[str]:
    """The sum behind the first layer."""
    graph = captured.graph
    first = next(node for node in graph.nodes if node.op == "aten.linear.default")
    return {user.name for user in graph.users[first.name]}


@pytest.mark.parametrize("far", [-10_000.0, -1e9, float("-inf")])
@pytest.mark.parametrize("add", ["computed", "given", "buffer", "slice", "number"])
def test_what_a_mask_is_added_to_is_masked(add: str, far: float) -> None:
    captured = scored(add, far)
    masked = masked_values(captured.graph, captured.tensors)
    # The last sum too: what is added to it comes from the inputs without any weight.
    assert masked >= sums(captured)
    softmax = next(n.name for n in captured.graph.nodes if "softmax" in n.op)
    assert softmax not in masked


@pytest.mark.parametrize("add", ["buffer", "slice", "number"])
def test_constants_of_the_size_of_activations_are_no_masks(add: str) -> None:
    captured = scored(add, -2.0)
    assert masked_values(captured.graph, captured.tensors).isdisjoint(sums(captured))


def test_constants_depend_on_no_input() -> None:
    args = (Ref("table"), 0, 0, 2, 1)
    cut = Node(name="cut", op="aten.slice.Tensor", args=args, shape=(2, 3))
    moved = Node(name="moved", op="aten.add.Tensor", args=(Ref("x"), Ref("cut"), 1), shape=(2, 3))
    graph = Graph(
        nodes=(cut, moved),
        inputs=("x",),
        input_shapes=((2, 3),),
        input_dtypes=("float32",),
        outputs=("moved",),
        output_keys=("",),
    )
    assert constant_values(graph) == {"cut"}
    assert constant_values(scored("slice", -2.0).graph) == frozenset()


class Shortcut(nn.Module):
    """An image that a convolution reads, and that is added behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :6]
        return self.last(F.relu(self.first(x) + x))


def test_an_image_that_a_layer_reads_is_no_mask() -> None:
    captured = capture(Shortcut().eval(), torch.randn(1, 3, 8, 6))
    assert mask_values(captured.graph) == frozenset()
    assert masked_values(captured.graph, captured.tensors) == frozenset()


def test_the_largest_of_masked_values_is_none() -> None:
    class Largest(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.last = nn.Conv1d(4, 4, 1), nn.Conv1d(4, 2, 1)

        def forward(self, x: Tensor, real: Tensor) -> Tensor:
            x = self.layer(x) + (real[:, None] - 1) * 1e4
            return self.last(F.max_pool1d(x[:, :, :6], 6))

    captured = capture(Largest().eval(), (torch.randn(2, 4, 8), torch.ones(2, 8)))
    masked = masked_values(captured.graph, captured.tensors)
    ops = {captured.graph.by_name[name].op for name in masked}
    assert ops == {"aten.add.Tensor", "aten.slice.Tensor"}
