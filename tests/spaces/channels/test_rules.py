"""Channels travel through every operator as its rule says, or stay whole with the reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from paredown.spaces.channels.parts import Part
from paredown.spaces.channels.rules import RULES
from paredown.spaces.graph.facts import ChannelRuleName
from paredown.spaces.graph.operators import OPERATORS
from paredown.spaces.structure.model_map import ModelMap

Read = Callable[[nn.Module, Tensor], ModelMap]


def producers(model_map: ModelMap) -> dict[str, tuple[str, ...]]:
    return {group.name: group.producers for group in model_map.groups}


def reason(model_map: ModelMap, layer: str) -> str:
    (found,) = [
        entry.reason for entry in model_map.left_out if entry.what == f"channels of {layer}"
    ]
    return found


def test_every_rule_that_the_table_names_is_there_and_none_is_idle() -> None:
    named = {facts.channels.name for facts in OPERATORS.values() if facts.channels is not None}
    assert named == set(RULES) == set(get_args(ChannelRuleName))


class Between(nn.Module):
    """Two layers with something in between."""

    def __init__(self, middle: Callable[[Tensor], Tensor], inputs: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.middle = middle
        self.second = nn.Conv2d(inputs, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.middle(self.first(x))).mean((2, 3))


class Scale(nn.Module):
    """A bare vector with an entry per channel."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.arange(1.0, 9.0).view(8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def shuffle(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


@pytest.mark.parametrize(
    ("middle", "inputs", "word"),
    [
        (nn.GroupNorm(2, 8), 8, "group_norm"),
        (lambda x: x.softmax(1), 8, "softmax"),
        (lambda x: x[:, ::2], 4, "slice"),
        (lambda x: x.flatten(1).view(-1, 12, 4, 6), 12, "view"),
        (lambda x: x * x.mean(1, keepdim=True), 8, "mean"),
        (nn.Conv2d(8, 8, 3, groups=2), 8, "groups"),
        (nn.ConvTranspose2d(8, 8, 3, groups=8), 8, "transpose"),
        (lambda x: x.transpose(1, 2), 6, "another dimension"),
    ],
    ids=[
        "groupnorm",
        "softmax",
        "slice",
        "across",
        "mean",
        "grouped",
        "up",
        "swap",
    ],
)
def test_channels_that_are_mixed_are_left_alone_with_the_reason(
    read: Read, middle: Callable[[Tensor], Tensor], inputs: int, word: str
) -> None:
    model_map = read(Between(middle, inputs), torch.randn(2, 3, 8, 8))
    assert "first" not in producers(model_map)
    assert word in reason(model_map, "first")


@pytest.mark.parametrize(
    "middle",
    [
        nn.InstanceNorm2d(8, affine=True),
        nn.Upsample(scale_factor=2),
        lambda x: nn.functional.pad(x, (1, 1, 1, 1)),
        lambda x: x[:, :, 1:-1, ::2],
        lambda x: x.permute(0, 2, 3, 1).relu().permute(0, 3, 1, 2),
        lambda x: x.permute(0, 3, 2, 1).transpose(1, 3),
        lambda x: x.flatten(2).softmax(-1).unsqueeze(2),
        lambda x: torch.cat([x, x.relu()], dim=2),
        lambda x: x / (1 + x.abs()),
        Scale(),
        lambda x: x * x.mean((2, 3), keepdim=True).expand(-1, -1, 6, 6),
        lambda x: x.select(2, 0).unsqueeze(-1),
        nn.Conv2d(8, 8, 3, groups=8),
    ],
)
def test_channels_that_pass_through_stay_a_group(
    read: Read, middle: Callable[[Tensor], Tensor]
) -> None:
    model_map = read(Between(middle), torch.randn(2, 3, 8, 8))
    assert "first" in producers(model_map)
    assert model_map.tensor_parts[("second.weight", 1)] == (Part("first", 8),)


@pytest.mark.parametrize(
    ("middle", "inputs", "parts"),
    [
        (lambda x: x[:, 2:6], 4, (Part("first.2", 4),)),
        (lambda x: x.chunk(2, dim=1)[1], 4, (Part("first.4", 4),)),
        (
            lambda x: torch.cat(x.split([2, 6], 1)[::-1], 1),
            8,
            (Part("first.2", 6), Part("first", 2)),
        ),
        (
            lambda x: x + torch.cat([x[:, :4], x[:, 4:]], 1),
            8,
            (Part("first", 4), Part("first.4", 4)),
        ),
        (lambda x: torch.mul(*x.chunk(2, dim=1)), 4, (Part("first", 4),)),
        (shuffle, 8, (Part("first", 2),) * 4),
    ],
    ids=["slice", "chunk", "split", "cut", "gated", "shuffle"],
)
def test_channels_that_are_taken_apart_are_groups_of_their_own(
    read: Read, middle: Callable[[Tensor], Tensor], inputs: int, parts: tuple[Part, ...]
) -> None:
    model_map = read(Between(middle, inputs), torch.randn(2, 3, 8, 8))
    assert model_map.tensor_parts[("second.weight", 1)] == parts
