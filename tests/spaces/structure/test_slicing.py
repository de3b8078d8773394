"""Slicing takes the right entries, and the narrowed graph runs with the shapes it claims."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from paredown.spaces.capture.capturing import Captured, as_inputs
from paredown.spaces.channels.parts import Part
from paredown.spaces.graph.graph import Node, run
from paredown.spaces.structure.model_map import ModelMap
from paredown.spaces.structure.slicing import (
    kept_positions,
    narrow_graph,
    narrowed_size,
    slice_tensors,
)

Maps = Callable[[str], ModelMap]


def test_kept_positions_by_hand() -> None:
    parts = (Part("a", 3, 2), Part(None, 2), Part("b", 2))
    keep = {"a": torch.tensor([0, 2]), "b": torch.tensor([1])}
    assert kept_positions(parts, keep).tolist() == [0, 1, 4, 5, 6, 7, 9]
    assert kept_positions(parts, {}).tolist() == list(range(10))
    assert narrowed_size(parts, {"a": 2, "b": 1}) == 7


def test_sliced_tensors_hold_the_kept_channels(
    mapped: Maps, captured: Callable[[str], Captured]
) -> None:
    tensors = captured("resnet20").tensors
    keep = torch.tensor([1, 5, 30])
    sliced = slice_tensors(mapped("resnet20"), tensors, {"layer2.0.conv1": keep})
    assert torch.equal(sliced["layer2.0.conv1.weight"], tensors["layer2.0.conv1.weight"][keep])
    assert torch.equal(sliced["layer2.0.conv1.bias"], tensors["layer2.0.conv1.bias"][keep])
    assert torch.equal(sliced["layer2.0.conv2.weight"], tensors["layer2.0.conv2.weight"][:, keep])
    untouched = set(tensors) - {f"layer2.0.conv{n}" for n in ("1.weight", "1.bias", "2.weight")}
    assert all(sliced[name] is tensors[name] for name in untouched)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_network_with_every_group_narrowed_runs_with_the_shapes_it_claims(
    mapped: Maps,
    captured: Callable[[str], Captured],
    zoo: Any,
    zoo_name: str,
    batch_size: int,
) -> None:
    model_map, capture = mapped(zoo_name), captured(zoo_name)
    generator = torch.Generator().manual_seed(1)
    keep = {
        g.name: torch.randperm(g.channels, generator=generator)[: 1 + g.channels // 3]
        for g in model_map.groups
    }
    narrow = narrow_graph(model_map, capture.graph, {n: len(k) for n, k in keep.items()})
    sliced = slice_tensors(model_map, capture.tensors, keep)

    def check(node: Node, _: Any, output: Any) -> Any:
        assert tuple(output.shape)[1:] == node.shape[1:]
        return output

    inputs = as_inputs(capture.graph, zoo[zoo_name][1](batch_size))
    outputs = run(narrow, sliced, inputs, after=check)
    wanted = [(batch_size, *capture.graph.shape_of(name)[1:]) for name in capture.graph.outputs]
    assert [tuple(t.shape) for t in outputs] == wanted
    assert sum(t.numel() for t in sliced.values()) < sum(
        t.numel() for t in capture.tensors.values()
    )


def test_full_widths_change_nothing(mapped: Maps, zoo_name: str) -> None:
    model_map = mapped(zoo_name)
    full = {group.name: group.channels for group in model_map.groups}
    assert narrow_graph(model_map, model_map.graph, full) == model_map.graph


def test_permuted_channels_leave_the_function_alone(
    mapped: Maps, captured: Callable[[str], Captured], zoo: Any, zoo_name: str
) -> None:
    # An oracle without zeros: keeping all channels in another order is the same network.
    model_map, capture = mapped(zoo_name), captured(zoo_name)
    generator = torch.Generator().manual_seed(2)
    keep = {g.name: torch.randperm(g.channels, generator=generator) for g in model_map.groups}
    inputs = as_inputs(capture.graph, zoo[zoo_name][1](2))
    permuted = slice_tensors(model_map, capture.tensors, keep)
    for a, b in zip(
        run(capture.graph, capture.tensors, inputs),
        run(capture.graph, permuted, inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
