"""Verification keeps what is right and catches what is planted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paredown.spaces.capture.capturing import Captured, capture
from paredown.spaces.channels.parts import Part
from paredown.spaces.graph.graph import Graph
from paredown.spaces.structure import verifying
from paredown.spaces.structure.model_map import Block, ModelMap
from paredown.spaces.structure.reading import read_model_map
from paredown.spaces.structure.verifying import verified, without_groups

HEADS, SHARED, ENTRIES, HIDDEN = 6, 2, 2, 8


class Transformer(nn.Module):
    """Three heads of queries for each of keys and values, then a gated MLP."""

    def __init__(self) -> None:
        super().__init__()
        size = HEADS * ENTRIES
        self.q, self.o = nn.Linear(size, size), nn.Linear(size, size)
        self.k, self.v = (nn.Linear(size, SHARED * ENTRIES) for _ in range(2))
        self.gate, self.up = (nn.Linear(size, HIDDEN) for _ in range(2))
        self.down, self.last = nn.Linear(HIDDEN, size), nn.Linear(size, 3)

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q, k, v = (
            layer(x).view(b, t, -1, ENTRIES).transpose(1, 2) for layer in (self.q, self.k, self.v)
        )
        k, v = (z.repeat_interleave(HEADS // SHARED, 1) for z in (k, v))
        x = x + self.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return self.last(x + self.down(F.silu(self.gate(x)) * self.up(x)))


def transformer() -> tuple[ModelMap, Captured]:
    torch.manual_seed(0)
    of = capture(Transformer().eval(), torch.randn(2, 5, HEADS * ENTRIES))
    return read_model_map(of), of


INTERLEAVED = (Part("q", SHARED, ENTRIES),) * (HEADS // SHARED)
"""Query heads as if each group of keys and values served every second one: the classic wrong order."""

Maps = Callable[[str], ModelMap]
Captures = Callable[[str], Captured]


def reason(model_map: ModelMap, what: str) -> str:
    (found,) = [entry.reason for entry in model_map.left_out if entry.what == what]
    return found


def traced(of: Captured) -> tuple[Mapping[str, Tensor], tuple[Tensor, ...]]:
    return of.tensors, of.example


def with_parts(
    model_map: ModelMap, key: tuple[str, int], parts: tuple[Part, ...] | None
) -> ModelMap:
    changed = {k: p for k, p in model_map.tensor_parts.items() if k != key}
    if parts is not None:
        changed[key] = parts
    return replace(model_map, tensor_parts=changed)


def test_a_verified_map_passes_again_with_other_channels(
    mapped: Maps, captured: Captures, zoo_name: str
) -> None:
    model_map = mapped(zoo_name)
    again = verified(model_map, *traced(captured(zoo_name)), seed=5)
    assert again == model_map


def test_no_group_of_the_zoo_is_lost_to_verification(mapped: Maps, zoo_name: str) -> None:
    assert not [e for e in mapped(zoo_name).left_out if "zeroing" in e.reason]
    assert not [e for e in mapped(zoo_name).left_out if "cannot be removed" in e.reason]


def test_swapped_parts_of_a_concatenation_are_caught(mapped: Maps, captured: Captures) -> None:
    model_map = mapped("densenet")
    key = ("transition.weight", 1)
    a, b, c = model_map.tensor_parts[key]
    planted = with_parts(model_map, key, (a, c, b))
    result = verified(planted, *traced(captured("densenet")))
    lost = {g.name for g in model_map.groups} - {g.name for g in result.groups}
    assert lost == {b.group, c.group}
    assert "differ by" in reason(result, "channels of block1.0.conv2")
    assert all(part.group not in lost for parts in result.tensor_parts.values() for part in parts)


def test_the_wrong_repeat_after_flattening_is_caught(mapped: Maps, captured: Captures) -> None:
    # 16 channels x 9 pixels read as 9 repeats of all channels: the classic wrong order.
    model_map = mapped("lenet")
    parts = tuple(Part("conv2", 16) for _ in range(9))
    planted = with_parts(model_map, ("fc1.weight", 1), parts)
    result = verified(planted, *traced(captured("lenet")))
    assert "conv2" not in {g.name for g in result.groups}
    assert "differ by" in reason(result, "channels of conv2")


def test_a_forgotten_consumer_is_caught(mapped: Maps, captured: Captures) -> None:
    model_map = mapped("resnet20")
    planted = with_parts(model_map, ("layer2.1.conv2.weight", 1), None)
    result = verified(planted, *traced(captured("resnet20")))
    assert len(result.groups) == len(model_map.groups) - 1
    assert "cannot be removed" in reason(result, "channels of layer2.1.conv1")


def test_a_forgotten_bias_is_caught(mapped: Maps, captured: Captures) -> None:
    model_map = mapped("resnet20")
    planted = with_parts(model_map, ("layer2.1.conv1.bias", 0), None)
    result = verified(planted, *traced(captured("resnet20")))
    assert "layer2.1.conv1" not in {g.name for g in result.groups}


def test_a_shape_that_is_not_narrowed_is_caught(mapped: Maps, captured: Captures) -> None:
    model_map = mapped("vgg")
    relu = model_map.graph.users[model_map.layers[0].node][0].name
    values = {name: pair for name, pair in model_map.value_parts.items() if name != relu}
    result = verified(replace(model_map, value_parts=values), *traced(captured("vgg")))
    assert "claims shape" in reason(result, "channels of features.0")


def test_zero_weights_do_not_hide_a_mistake(mapped: Maps, captured: Captures) -> None:
    model_map = mapped("densenet")
    key = ("transition.weight", 1)
    a, b, c = model_map.tensor_parts[key]
    tensors = {name: torch.zeros_like(t) for name, t in captured("densenet").tensors.items()}
    result = verified(with_parts(model_map, key, (a, c, b)), tensors, captured("densenet").example)
    assert b.group not in {g.name for g in result.groups}


def test_groups_that_are_right_alone_are_kept_as_long_as_they_agree(
    mapped: Maps, captured: Captures, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_map = mapped("resnet20")
    names = [group.name for group in model_map.groups]
    conflicting = {names[2], names[-1]}
    honest = verifying.narrow_graph

    def _conflict(model_map: ModelMap, graph: Graph, widths: Mapping[str, int]) -> Graph:
        if conflicting <= set(widths):
            raise ValueError("these two conflict")
        return honest(model_map, graph, widths)

    monkeypatch.setattr(verifying, "narrow_graph", _conflict)
    result = verified(model_map, *traced(captured("resnet20")))
    assert [group.name for group in result.groups] == names[:-1]
    assert result.left_out[-1].reason == (
        "right alone, but not with the others: cannot be removed: these two conflict"
    )


def test_right_groups_and_blocks_take_passes_that_do_not_grow_with_their_number(
    mapped: Maps, captured: Captures, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = []
    honest = verifying.run
    monkeypatch.setattr(verifying, "run", lambda *a, **k: passes.append(1) or honest(*a, **k))
    counts = {}
    for name in ("lenet", "resnet20"):
        passes.clear()
        verified(mapped(name), *traced(captured(name)))
        counts[name] = len(passes)
    assert len(mapped("resnet20").groups) > len(mapped("lenet").groups)
    # Two cuts, zeroed and removed; with blocks the whole network, and without them.
    assert counts == {"lenet": 4, "resnet20": 6}


def test_every_channel_is_removed_once_and_kept_once(
    mapped: Maps, captured: Captures, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuts: list[Mapping[str, Tensor]] = []
    honest = verifying.slice_tensors

    def _slice(
        model_map: ModelMap, tensors: Mapping[str, Tensor], keep: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        cuts.append(keep)
        return honest(model_map, tensors, keep)

    monkeypatch.setattr(verifying, "slice_tensors", _slice)
    model_map = mapped("resnet20")
    verified(model_map, *traced(captured("resnet20")))
    for group in model_map.groups:
        kept = torch.cat([cut[group.name] for cut in cuts])
        assert kept.sort().values.tolist() == list(range(group.channels))
    assert len({len(kept) / len(cuts[1][name]) for name, kept in cuts[0].items()}) > 1


@pytest.mark.parametrize("bypass", ["conv2d", "x"])
def test_a_block_that_cannot_be_skipped_is_dropped(
    mapped: Maps, captured: Captures, bypass: str
) -> None:
    model_map = mapped("resnet20")
    # The sum of a strided block has another shape than the network's stem or input.
    wrong = Block(name="wrong", output="add_208", bypass=bypass, layers=("layer2.0.conv1",))
    planted = replace(model_map, blocks=(*model_map.blocks, wrong))
    assert "add_208" in model_map.graph.by_name
    result = verified(planted, *traced(captured("resnet20")))
    assert result.blocks == model_map.blocks
    assert "cannot be skipped" in reason(result, "block wrong")


@pytest.mark.parametrize(
    ("group", "tensor", "dim", "wrong", "why"),
    [
        ("q", "q.weight", 0, INTERLEAVED, "differ by"),
        ("q", "o.weight", 1, INTERLEAVED, "differ by"),
        ("q", "k.weight", 0, (Part("q", SHARED),) * ENTRIES, "differ by"),
        ("q", "v.weight", 0, (Part("q", SHARED),) * ENTRIES, "differ by"),
        ("q", "k.weight", 0, None, "cannot be removed"),
        ("q", "v.bias", 0, None, "cannot be removed"),
        ("gate", "up.weight", 0, None, "cannot be removed"),
        ("gate", "down.weight", 1, (Part("gate", HIDDEN // 2),) * 2, "cannot be removed"),
    ],
)
def test_a_wrong_tie_of_heads_or_of_a_gated_mlp_is_caught(
    group: str, tensor: str, dim: int, wrong: tuple[Part, ...] | None, why: str
) -> None:
    model_map, of = transformer()
    sizes = {each.name: (each.channels, each.entries) for each in model_map.groups}
    assert sizes == {"q": (SHARED, HEADS // SHARED * ENTRIES), "gate": (HIDDEN, 1)}
    planted = verified(with_parts(model_map, (tensor, dim), wrong), *traced(of))
    assert {each.name for each in planted.groups} == sizes.keys() - {group}
    producers = next(each.producers for each in model_map.groups if each.name == group)
    assert why in reason(planted, f"channels of {', '.join(producers)}")


def test_without_groups_keeps_sizes(mapped: Maps) -> None:
    model_map = mapped("lenet")
    fewer = without_groups(model_map, {"conv2": "planted"})
    assert ("fc1.weight", 1) not in fewer.tensor_parts
    assert fewer.tensor_parts[("conv2.weight", 1)] == (Part("conv1", 6),)
    assert reason(fewer, "channels of conv2") == "planted"
