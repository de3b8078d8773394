"""Norms are folded into the layers before them where that changes nothing, and kept elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paredown.spaces.capture.capturing import Captured, capture

Difference = Callable[[nn.Module, Captured, Any], float]


def test_every_norm_that_follows_a_layer_is_folded(captured: Callable[[str], Captured]) -> None:
    ops = [node.op for node in captured("resnet20").graph.nodes]
    assert "aten.batch_norm.default" not in ops
    assert len(captured("resnet20").folded) == 19
    dense = [node.op for node in captured("densenet").graph.nodes]
    # Four layers start with a norm on a concatenation or on the stem; then transition and head.
    assert dense.count("aten.batch_norm.default") == 6


def test_a_folded_norm_is_the_affine_map_it_stood_for(zoo: Any) -> None:
    module = zoo["vgg"][0]()
    captured = capture(module, zoo["vgg"][1](1))
    conv, norm = module.features[0], module.features[1]
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    expected = conv.weight * factor.view(-1, 1, 1, 1)
    torch.testing.assert_close(captured.tensors["features.0.weight"], expected.detach())
    bias = norm.bias + (conv.bias - norm.running_mean) * factor
    torch.testing.assert_close(captured.tensors["features.0.bias"], bias.detach())


class TwoNorms(nn.Module):
    """A layer whose norm is read by another norm and by something else."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 1)
        self.first = nn.BatchNorm2d(3)
        self.second = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(self.conv(x))
        return self.second(y) + y


class NormAfterOutput(nn.Module):
    """A layer whose unnormalised output is wanted too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.conv(x)
        return y, self.norm(y)


class NormOverTime(nn.Module):
    """A linear layer on three rows, and a norm over the rows: as many as the layer's outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 3)
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.linear(x.flatten(2)))


@pytest.mark.parametrize("build", [TwoNorms, NormAfterOutput, NormOverTime])
def test_a_norm_is_folded_only_where_that_changes_nothing(
    build: Callable[[], nn.Module], difference: Difference
) -> None:
    torch.manual_seed(0)
    module = build().eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(part.running_var, 0.5, 2.0)
            nn.init.normal_(part.running_mean)
    x = torch.randn(3, 3, 2, 1) if build is NormOverTime else torch.randn(3, 2, 4, 4)
    assert difference(module, capture(module, x), x) < 1e-5


class States(nn.Module):
    """The states of a recurrent layer."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.layer = kind(3, 4, num_layers=2, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


@pytest.mark.parametrize("kind", [nn.LSTM, nn.RNN])
def test_both_biases_of_a_recurrent_layer_become_one(
    kind: type[nn.RNNBase], difference: Difference
) -> None:
    module = States(kind)
    captured = capture(module, torch.randn(5, 2, 3))
    for name in ("l0", "l1_reverse"):
        pair = (getattr(module.layer, f"bias_{of}_{name}").detach() for of in ("ih", "hh"))
        torch.testing.assert_close(captured.tensors[f"layer.bias_ih_{name}"], sum(pair))
    assert not any("bias_hh" in name for name in captured.tensors)
    assert difference(module, captured, torch.randn(5, 2, 3)) < 1e-6


def test_a_gru_keeps_both_biases() -> None:
    captured = capture(nn.GRU(3, 4), torch.randn(5, 2, 3))
    assert {"bias_ih_l0", "bias_hh_l0"} <= captured.tensors.keys()


class Crossed(nn.Module):
    """Two layers that share one of their biases."""

    def __init__(self, shared: bool) -> None:
        super().__init__()
        self.first, self.second = nn.LSTM(3, 3), nn.LSTM(3, 3)
        if shared:
            self.second.bias_ih_l0 = self.first.bias_ih_l0
        else:
            self.second = self.first

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)[0])[0]


@pytest.mark.parametrize("shared", [True, False])
def test_biases_are_added_once_and_only_where_all_that_read_them_read_the_pair(
    shared: bool, difference: Difference
) -> None:
    module = Crossed(shared)
    captured = capture(module, torch.randn(5, 2, 3))
    assert any("bias_hh" in name for name in captured.tensors) is shared
    assert difference(module, captured, torch.randn(5, 2, 3)) < 1e-6
