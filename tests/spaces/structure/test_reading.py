"""The whole map of the networks that the design talks about."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from paredown.spaces.capture.capturing import Captured, CaptureError, capture
from paredown.spaces.structure.model_map import ModelMap
from paredown.spaces.structure.reading import read_model_map

Maps = Callable[[str], ModelMap]


def test_reading_twice_gives_the_same_map(
    mapped: Maps, captured: Callable[[str], Captured], zoo_name: str
) -> None:
    assert read_model_map(captured(zoo_name)) == mapped(zoo_name)


def test_every_layer_is_in_a_segment_and_every_group_names_layers(
    mapped: Maps, zoo_name: str
) -> None:
    model_map = mapped(zoo_name)
    for layer in model_map.layers:
        assert layer.node in model_map.segment_of_node
    for group in model_map.groups:
        assert {*group.producers, *group.consumers} <= set(model_map.layer_by_name)
        assert group.name == group.producers[0]
        assert group.consumers


def test_what_is_left_out_always_says_why(mapped: Maps, zoo_name: str) -> None:
    for entry in mapped(zoo_name).left_out:
        assert entry.what
        assert entry.reason


@pytest.mark.cifar
def test_the_trained_resnet20_is_read_like_the_untrained_one(zoo: Any, mapped: Maps) -> None:
    root = Path(os.environ.get("PAREDOWN_DATA", "../shared/data"))
    path = root / "weights" / "resnet20_cifar10_jpeg.safetensors"
    if not path.exists():
        pytest.skip(f"{path} is absent; set PAREDOWN_DATA")
    module = zoo["resnet20"][0]()
    module.load_state_dict(load_file(path))
    trained = read_model_map(capture(module, torch.randn(1, 3, 32, 32)))
    assert trained == mapped("resnet20")


def test_a_network_of_one_batch_size_is_refused_with_a_remedy() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.view(2, 2, 4))

    captured = capture(Fixed(), torch.randn(2, 8))
    with pytest.raises(CaptureError, match=r"any batch size.*write x\.shape"):
        read_model_map(captured)
