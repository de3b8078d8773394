"""Values without channels get them where they are copies or made of stored tensors."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from paredown.spaces.channels.parts import Part
from paredown.spaces.structure.model_map import ModelMap

Read = Callable[[nn.Module, Tensor], ModelMap]


class Beside(nn.Module):
    """A layer's channels times something else of their shape."""

    def __init__(self, other: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last, self.other = nn.Linear(4, 6), nn.Linear(6, 2), other
        self.table = nn.Parameter(torch.randn(6))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x) * self.other(self.table, x))


@pytest.mark.parametrize(
    ("other", "is_sliced"),
    [
        (lambda table, x: torch.where(x[..., :1] > 0, table, -table), True),
        (lambda table, x: table.expand(x.shape[0], 3, 6).abs() + x[..., 1:2], True),
        (lambda _, x: x[..., :1].expand(-1, -1, 6).relu(), False),
        (lambda _, x: x[:, :, None, :1].expand(-1, 3, 6, 1).squeeze(-1), False),
    ],
    ids=["choice", "sum", "copies", "squeezed"],
)
def test_what_can_be_sliced_along_keeps_the_group(
    read: Read, other: Callable[[Tensor, Tensor], Tensor], is_sliced: bool
) -> None:
    model_map = read(Beside(other), torch.randn(2, 3, 4))
    assert "first" in {group.name for group in model_map.groups}
    table = {
        dim: parts for (name, dim), parts in model_map.tensor_parts.items() if "table" in name
    }
    assert bool(table) == is_sliced
    assert set(table.values()) <= {(Part("first", 6),)}


def test_other_values_keep_channels_whole(read: Read) -> None:
    model_map = read(Beside(lambda _, x: torch.cat([x, x[..., :2]], -1)), torch.randn(2, 3, 4))
    (reason,) = [x.reason for x in model_map.left_out if x.what == "channels of first"]
    assert "with fixed value" in reason
