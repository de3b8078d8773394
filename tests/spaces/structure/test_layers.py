"""Layers are found with their shapes and work, and what is no layer is listed."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from paredown.spaces.capture.capturing import Captured, as_inputs, capture
from paredown.spaces.graph.graph import run
from paredown.spaces.structure.layers import read_layers

Captures = Callable[[str], Captured]


def test_macs_are_half_the_flops_that_torch_counts(
    zoo: dict, captured: Captures, zoo_name: str
) -> None:
    capture_ = captured(zoo_name)
    inputs = as_inputs(capture_.graph, zoo[zoo_name][1](1))
    with FlopCounterMode(display=False) as counter:
        run(capture_.graph, capture_.tensors, inputs)
    layers, left_out = read_layers(capture_)
    ours, whole = 2 * sum(layer.macs for layer in layers), counter.get_total_flops()
    assert ours < whole if left_out else ours == whole


def test_every_weight_of_the_zoo_belongs_to_a_layer_or_is_left_out_with_the_reason(
    zoo: dict, captured: Captures, zoo_name: str
) -> None:
    layers, left_out = read_layers(captured(zoo_name))
    kinds = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.Embedding)
    modules = {n: m for n, m in zoo[zoo_name][0]().named_modules() if isinstance(m, kinds)}
    grouped = {n for n, m in modules.items() if isinstance(m, nn.ConvTranspose2d) and m.groups > 1}
    assert {layer.name for layer in layers} == modules.keys() - grouped
    tables = {name for name, _ in zoo[zoo_name][0]().named_buffers(recurse=False)}
    assert {item.what for item in left_out} == grouped | tables
    reasons = [item.reason for item in left_out if item.what in grouped]
    assert all("no output axis for scales" in reason for reason in reasons)


def test_axes_follow_the_kind_of_layer(captured: Captures) -> None:
    unet = {layer.name: layer for layer in read_layers(captured("unet"))[0]}
    up = unet["up2"]
    assert (up.kind, up.weight_shape, up.in_axis, up.out_axis) == (
        "conv_transpose2d",
        (24, 16, 2, 2),
        0,
        1,
    )
    assert up.bias == "up2.bias"
    down = unet["down1.0"]
    assert (down.kind, down.weight_shape, down.in_axis, down.out_axis) == (
        "conv2d",
        (8, 3, 3, 3),
        1,
        0,
    )
    words = {layer.name: layer for layer in read_layers(captured("words"))[0]}
    assert (words["embedding"].in_axis, words["embedding"].out_axis) == (0, 1)
    assert words["embedding"].macs == 0
    assert words["embedding"].bias is None


def test_depthwise_layers_are_told_from_others(captured: Captures) -> None:
    layers, _ = read_layers(captured("mobilenet_v2"))
    depthwise = [layer.name for layer in layers if layer.is_depthwise]
    assert depthwise == [f"blocks.{i}.depthwise.0" for i in range(4)]


class Odd(nn.Module):
    """A weight of two kinds of layers, one that is computed, and a bare matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Linear(4, 4)
        self.filters = nn.Conv1d(4, 4, 1)
        self.scaled = nn.Linear(4, 4)
        self.matrix = nn.Parameter(torch.randn(4, 4))
        self.good = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(x)
        x = F.linear(x, self.twice.weight.tanh())
        x = (
            F.conv_transpose1d(x[:, :, None], self.filters.weight)[:, :, 0]
            + self.filters(x[:, :, None])[:, :, 0]
        )
        x = F.linear(x, torch.tanh(self.scaled.weight), self.scaled.bias)
        return self.good(torch.relu(x @ self.matrix))


def test_what_is_no_layer_is_left_out_with_the_reason() -> None:
    layers, left_out = read_layers(capture(Odd(), torch.randn(2, 4)))
    names = [layer.name for layer in layers]
    # What is computed from parameters alone is a stored weight, and a product with one a linear layer.
    assert {"twice", "matrix", "good"} <= set(names)
    assert len(names) == 5
    (entry,) = left_out
    assert entry.what == "filters"
    assert "shared by operators of different kinds" in entry.reason


class Offsets(nn.Module):
    """A layer that reads a parameter, as position biases are made from coordinates."""

    def __init__(self) -> None:
        super().__init__()
        self.coordinates = nn.Parameter(torch.randn(5, 4))
        self.offset, self.last = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x + self.offset(self.coordinates))


def test_a_layer_that_reads_a_stored_tensor_is_computed_once() -> None:
    captured = capture(Offsets(), torch.randn(2, 5, 8))
    layers, _ = read_layers(captured)
    assert [layer.name for layer in layers] == ["last"]
    assert "offset.weight" not in captured.tensors
