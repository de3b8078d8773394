"""Operators that only move values: none where nothing moves, and on codes where there are codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paredown.compressors.onnx.lowering import lower


class Of(nn.Module):
    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


MOVES: dict[str, tuple[Callable[[Tensor], Any], list[str]]] = {
    "flatten": (lambda x: x.flatten(1), ["Flatten"]),
    "view": (lambda x: x.view(2, 2, 2, 8, 8), ["Reshape"]),
    "squeeze": (lambda x: x[:, :1].squeeze(1), ["Slice", "Reshape"]),
    "transpose": (lambda x: x.transpose(1, -1), ["Transpose"]),
    "permute": (lambda x: x.permute(0, -1, 1, 2), ["Transpose"]),
    "strided slice": (lambda x: x[:, :, ::2], ["Slice"]),
    "negative slice": (lambda x: x[..., -3:-1], ["Slice"]),
    "select": (lambda x: x[:, 1], ["Gather"]),
    "pads": (lambda x: F.pad(x, (1, 0, 2, 3)), ["Pad"]),
    "cropping pads": (lambda x: F.pad(x, (-1, 2)), ["Pad"]),
    "mirrored pads": (lambda x: F.pad(x, (1, 2, 3, 0), mode="reflect"), ["Pad"]),
    "repeated edges": (lambda x: F.pad(x, (1, 2, 3, 0), mode="replicate"), ["Pad"]),
    "around": (lambda x: F.pad(x, (1, 2, 3, 0), mode="circular"), None),
    "even pieces": (lambda x: x.chunk(2, 1), ["Split"]),
    "short last piece": (lambda x: x.split(3, 2), ["Split"]),
    "given pieces": (lambda x: x.split([1, 3], 1), ["Split"]),
    "joined": (lambda x: torch.cat([x, x], -1), ["Concat"]),
    "expanded": (lambda x: x[:, :1].expand(2, 3, 8, 8), ["Slice", "Expand"]),
    "pixels": (lambda x: F.pixel_shuffle(x, 2), ["DepthToSpace"]),
    "channels": (lambda x: F.channel_shuffle(x, 2), None),
    "twice as large": (lambda x: F.interpolate(x, scale_factor=2), ["Resize"]),
}  # type: ignore[dict-item]


@pytest.mark.parametrize("name", MOVES)
def test_values_are_moved_as_torch_moves_them(name: str, identity: Any, run_onnx: Any) -> None:
    function, ops = MOVES[name]
    # Each value has a place of its own, so that a wrong one shows.
    x = torch.arange(2 * 4 * 8 * 8).float().view(2, 4, 8, 8)
    model = identity(Of(function), x)
    if ops is not None:
        assert [node.op_type for node in lower(model).graph.node] == ops
    wanted = function(x)
    found, _ = run_onnx(model, x)
    for ours, theirs in zip(
        wanted if isinstance(wanted, tuple | list) else [wanted], found, strict=True
    ):
        assert torch.equal(theirs, ours)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.view(2, 4, 8, 8),
        lambda x: x[:, 0:4],
        lambda x: x.contiguous().clone(),
        lambda x: F.dropout(x, training=False),
    ],
)
def test_what_moves_nothing_is_no_operator(
    function: Callable[[Tensor], Tensor], identity: Any
) -> None:
    # Of an addition, so that something is left.
    model = identity(Of(lambda x: function(x) + 1), torch.randn(2, 4, 8, 8))
    assert [node.op_type for node in lower(model).graph.node] == ["Add"]


def test_codes_are_moved_as_codes(identity: Any, with_weights: Any, with_codes: Any) -> None:
    """Between two layers on codes nothing is read as floats, however it is moved."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(4, 8, 3, padding=1)
            self.second = nn.Conv2d(8, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = F.pad(torch.relu(self.first(x)), (1, 1, 1, 1))[:, :, 1:, ::2].transpose(2, 3)
            return self.second(F.max_pool2d(y, 2))

    x = torch.randn(2, 4, 8, 8)
    model = with_codes(with_weights(identity(Net(), x), 8, "int8"), x)
    nodes = lower(model).graph.node
    made_by = {name: node for node in nodes for name in node.output}
    moving = [n for n in nodes if n.op_type in ("Pad", "Slice", "Transpose", "MaxPool")]
    assert len(moving) == 5
    for node in moving:
        source = made_by[node.input[0]]
        while source in moving:
            source = made_by[source.input[0]]
        assert source.op_type == "QuantizeLinear"
    # A pad of codes is filled with the code of zero.
    (pad,) = [n for n in nodes if n.op_type == "Pad"]
    assert pad.input[2] == made_by[pad.input[0]].input[2]
