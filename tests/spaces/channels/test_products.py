"""Heads of attention are groups, however it is written, and fewer heads equal zeroed ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paredown.spaces.capture.capturing import capture
from paredown.spaces.channels.parts import Part
from paredown.spaces.graph.graph import run
from paredown.spaces.structure.model_map import ModelMap
from paredown.spaces.structure.reading import read_model_map
from paredown.spaces.structure.slicing import narrow_graph, slice_tensors

Read = Callable[[nn.Module, Tensor], ModelMap]
HEADS, WIDTH, SIZE = 4, 3, 12


class Fused(nn.Module):
    """Queries, keys and values of one layer, products written out."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out, self.last = nn.Linear(SIZE, 36), nn.Linear(SIZE, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, t, 3, HEADS, WIDTH).permute(2, 0, 3, 1, 4).unbind(0)
        scores = (q @ k.transpose(-2, -1) * 0.5).softmax(-1)
        return self.last(self.out((scores @ v).transpose(1, 2).reshape(b, t, SIZE)))


class Separate(nn.Module):
    """Keys and values of fewer heads, and a bias for each head of the queries."""

    def __init__(self, shared: int, bias: bool = False, copied: bool = True) -> None:
        super().__init__()
        self.shared, self.copied = shared, copied
        self.q, self.out, self.last = nn.Linear(SIZE, SIZE), nn.Linear(SIZE, 5), nn.Linear(5, 2)
        self.k, self.v = (nn.Linear(SIZE, WIDTH * shared) for _ in range(2))
        self.bias = nn.Parameter(torch.randn(1, HEADS, 1, 6)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q, k, v = (
            layer(x).view(b, t, -1, WIDTH).transpose(1, 2) for layer in (self.q, self.k, self.v)
        )
        if self.copied and self.shared < HEADS:
            k, v = (self._copied(z, b, t) for z in (k, v))
        mask = None if self.bias is None else self.bias.expand(b, HEADS, t, t)
        y = F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=not self.copied)
        return self.last(self.out(y.transpose(1, 2).flatten(2)))

    def _copied(self, z: Tensor, b: int, t: int) -> Tensor:
        times = HEADS // self.shared
        return z[:, :, None].expand(b, self.shared, times, t, WIDTH).reshape(b, HEADS, t, WIDTH)


class OfTorch(nn.Module):
    """The module of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(SIZE, HEADS, batch_first=True)
        self.last = nn.Linear(SIZE, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.attend(x, x, x, need_weights=False)[0])


class Gated(nn.Module):
    """Halves of one layer, of which one opens the other."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down, self.last = nn.Linear(SIZE, 16), nn.Linear(8, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.up(x).chunk(2, -1)
        return self.last(self.down(F.gelu(a) * b))


HEADED = {
    "fused": (Fused, "qkv", (Part("qkv", 4, 3),) * 3, Part("qkv", 4, 3)),
    "own": (lambda: Separate(HEADS), "q", (Part("q", 4, 3),), Part("q", 4, 3)),
    "biased": (lambda: Separate(HEADS, bias=True), "q", (Part("q", 4, 3),), Part("q", 4, 3)),
    "shared": (lambda: Separate(2), "q", (Part("q", 2, 6),), Part("q", 2, 6)),
    "shared by argument": (
        lambda: Separate(2, copied=False),
        "q",
        (Part("q", 2, 6),),
        Part("q", 2, 6),
    ),
    "one for all": (lambda: Separate(1), "q", (Part("q", 4, 3),), Part("q", 4, 3)),
    "torch": (
        OfTorch,
        "attend.in_proj_weight",
        (Part("attend.in_proj_weight", 4, 3),) * 3,
        Part("attend.in_proj_weight", 4, 3),
    ),
    "gated": (Gated, "up", (Part("up", 8),) * 2, Part("up", 8)),
}


@pytest.mark.parametrize("name", HEADED)
def test_heads_and_gated_widths_are_groups(read: Read, name: str) -> None:
    make, group, rows, columns = HEADED[name]
    model_map = read(make().eval(), torch.randn(2, 6, SIZE))
    (found,) = [each for each in model_map.groups if each.name == group]
    weight = model_map.layer_by_name[group].weight
    assert (found.channels, found.entries) == (columns.channels, rows[0].repeat)
    assert model_map.tensor_parts[weight, 0] == rows
    reader = model_map.layer_by_name[found.consumers[0]].weight
    assert model_map.tensor_parts[reader, 1] == (columns,)


@pytest.mark.parametrize("name", HEADED)
def test_half_the_heads_equal_the_zeroed_ones(name: str) -> None:
    torch.manual_seed(0)
    make, group, *_ = HEADED[name]
    captured = capture(make().eval(), torch.randn(2, 6, SIZE))
    model_map = read_model_map(captured)
    count = next(each.channels for each in model_map.groups if each.name == group)
    kept, x = torch.arange(1, count, 2), torch.randn(3, 6, SIZE)
    sliced = slice_tensors(model_map, captured.tensors, {group: kept})
    narrow = narrow_graph(model_map, captured.graph, {group: len(kept)})
    # By hand: whatever reads the heads that go finds nothing in its columns.
    consumer = next(each for each in model_map.groups if each.name == group).consumers[0]
    weight = model_map.layer_by_name[consumer].weight
    whole = captured.tensors[weight].clone()
    whole.unflatten(1, (count, -1))[:, 0::2] = 0
    zeroed = run(captured.graph, {**captured.tensors, weight: whole}, [x])
    torch.testing.assert_close(run(narrow, sliced, [x]), zeroed)
    assert sliced[weight].shape[1] == whole.shape[1] * len(kept) // count


@pytest.mark.parametrize("scale", [None, 0.5])
def test_channels_of_single_heads_stay_whole_where_the_scale_counts_them(
    read: Read, scale: float | None
) -> None:
    class Single(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v = (nn.Linear(SIZE, 8) for _ in range(3))
            self.last = nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.q(x), self.k(x), self.v(x)
            if scale is None:
                return self.last(F.scaled_dot_product_attention(q, k, v))
            return self.last((q @ k.mT * scale).softmax(-1) @ v)

    groups = {g.name: g.producers for g in read(Single(), torch.randn(2, 6, SIZE)).groups}
    assert groups == ({} if scale is None else {"q": ("q", "k"), "v": ("v",)})
