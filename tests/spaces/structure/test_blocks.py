"""Residual blocks are found where the shortcut is the identity, and skipping them is exact."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from paredown.spaces.capture.capturing import Captured
from paredown.spaces.graph.graph import run
from paredown.spaces.structure.blocks import bypass_blocks, module_path
from paredown.spaces.structure.model_map import ModelMap

Maps = Callable[[str], ModelMap]


def test_resnet20_may_drop_its_seven_identity_blocks(mapped: Maps) -> None:
    blocks = mapped("resnet20").blocks
    names = ["layer1.0", "layer1.1", "layer1.2", "layer2.1", "layer2.2", "layer3.1", "layer3.2"]
    assert [block.name for block in blocks] == names
    assert all(b.layers == (f"{b.name}.conv1", f"{b.name}.conv2") for b in blocks)


def test_projection_shortcuts_are_no_identity(mapped: Maps) -> None:
    names = [block.name for block in mapped("resnet_projection").blocks]
    assert names == ["layer1.0", "layer1.1", "layer2.1", "layer3.1"]


@pytest.mark.parametrize("name", ["lenet", "vgg", "densenet", "inception", "unet", "words"])
def test_networks_without_residual_sums_have_no_blocks(mapped: Maps, name: str) -> None:
    assert mapped(name).blocks == ()


def test_a_skipped_block_equals_the_module_without_it(
    zoo: dict, mapped: Maps, captured: Callable[[str], Captured]
) -> None:
    build, example = zoo["mobilenet_v2"]
    module, capture = build(), captured("mobilenet_v2")
    module.blocks[1] = nn.Identity()
    module.blocks[3] = nn.Identity()
    graph = bypass_blocks(capture.graph, mapped("mobilenet_v2").blocks)
    (output,) = run(graph, capture.tensors, [example(2)])
    with torch.no_grad():
        torch.testing.assert_close(output, module(example(2)), rtol=1e-4, atol=1e-5)
    assert not any(name.startswith(("blocks.1", "blocks.3")) for name in graph.tensor_names())


class Chain(nn.Module):
    """Residual sums in a row without anything between: one block's input is another's sum."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = x + torch.relu(part(x))
        return self.head(x)


def test_blocks_in_a_row_can_all_be_skipped(read: Callable[..., ModelMap]) -> None:
    model_map = read(Chain(), torch.randn(2, 4))
    assert [block.name for block in model_map.blocks] == ["parts.0", "parts.1", "parts.2"]
    left = bypass_blocks(model_map.graph, model_map.blocks)
    assert [node.op for node in left.nodes] == ["aten.linear.default"]


class Watched(nn.Module):
    """A residual branch whose inside is an output as well: skipping it would not remove it."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.branch(x)
        return x + torch.relu(y), y


def test_a_branch_that_is_read_elsewhere_is_no_block(read: Callable[..., ModelMap]) -> None:
    assert read(Watched(), torch.randn(2, 4)).blocks == ()


def test_the_module_path_is_what_names_share() -> None:
    assert module_path(("layer1.0.conv1", "layer1.0.conv2")) == "layer1.0"
    assert module_path(("layer1.0.conv1", "layer1.01.conv2")) == "layer1"
    assert module_path(("conv1",)) == "conv1"
    assert module_path(("conv1", "conv2")) == ""
