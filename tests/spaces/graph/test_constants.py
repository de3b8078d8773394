"""What does not depend on the inputs becomes a stored tensor, under the name of what it is made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from paredown.spaces.graph.capturing import Captured, capture
from paredown.spaces.graph.hold import check_graph


class Positions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 4)

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[1], device=x.device)
        mask = places[None] <= places[:, None]
        return mask.float() @ (x + self.table(places))


class Normed(nn.Module):
    def __init__(self, norm: object) -> None:
        super().__init__()
        assert callable(norm)
        self.conv = norm(nn.Conv1d(3, 5, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Cached(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([torch.tensor([]), x], dim=1)


class Wide(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.row = nn.Parameter(torch.randn(1, 4))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.row.cos().expand(1000, 4).sum(0)


def _held(module: nn.Module, x: Tensor) -> Captured:
    captured = capture(module, x[:2])
    check_graph(module, captured, x)
    return captured


def test_positions_and_masks_are_computed_once() -> None:
    found = _held(Positions(), torch.randn(3, 6, 4))
    assert [node.op for node in found.graph.nodes] == ["aten.add.Tensor", "aten.matmul.default"]
    assert {tuple(t.shape) for t in found.tensors.values()} == {(6, 4), (6, 6)}


def test_a_parametrised_weight_has_the_name_that_it_had() -> None:
    for norm in (weight_norm, spectral_norm, torch.nn.utils.weight_norm):
        module = Normed(norm).eval()
        found = _held(module, torch.randn(3, 3, 9))
        assert [node.op for node in found.graph.nodes] == ["aten.conv1d.default"]
        assert set(found.tensors) == {"conv.weight", "conv.bias"}
        torch.testing.assert_close(found.tensors["conv.weight"], module.conv.weight.detach())


def test_an_empty_cache_is_left_out() -> None:
    found = _held(Cached(), torch.randn(3, 2))
    assert found.graph.nodes == ()
    assert found.graph.outputs == ("x",)


def test_a_constant_that_repeats_is_stored_once() -> None:
    found = _held(Wide(), torch.randn(3, 4))
    assert sum(t.numel() for t in found.tensors.values()) <= 8
