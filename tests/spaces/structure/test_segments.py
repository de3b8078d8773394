"""Segments cover the graph once and end where a single value crosses."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from paredown.spaces.capture.capturing import capture
from paredown.spaces.structure.model_map import ModelMap
from paredown.spaces.structure.reading import read_model_map
from paredown.spaces.structure.side_values import side_values

Maps = Callable[[str], ModelMap]


def test_every_node_is_in_exactly_one_segment_in_order(mapped: Maps, zoo_name: str) -> None:
    model_map = mapped(zoo_name)
    covered = [name for segment in model_map.segments for name in segment.nodes]
    assert covered == [node.name for node in model_map.graph.nodes]


def test_every_segment_has_a_layer_and_a_name_of_its_own(mapped: Maps, zoo_name: str) -> None:
    segments = mapped(zoo_name).segments
    assert all(segment.layers for segment in segments)
    assert len({segment.name for segment in segments}) == len(segments)
    layers = [name for segment in segments for name in segment.layers]
    assert layers == [layer.name for layer in mapped(zoo_name).layers]


def test_at_most_one_value_but_masks_crosses_a_segment_border(mapped: Maps, zoo_name: str) -> None:
    model_map = mapped(zoo_name)
    graph, segment_of = model_map.graph, model_map.segment_of_node
    order = [segment.name for segment in model_map.segments]
    for position in range(1, len(order)):
        before, after = set(order[:position]), set(order[position:])
        crossing = {
            name
            for name, users in graph.users.items()
            if name in graph.by_name.keys() - side_values(graph)
            and segment_of[name] in before
            and any(segment_of[user.name] in after for user in users)
        }
        assert len(crossing) <= 1


def test_a_residual_block_is_one_segment_up_to_its_activation(mapped: Maps) -> None:
    segments = {segment.name: segment for segment in mapped("resnet20").segments}
    blocks = [f"layer{s}.{i}" for s in (1, 2, 3) for i in range(3)]
    assert list(segments) == ["conv1", *blocks, "linear"]
    ops = mapped("resnet20").graph.by_name
    inside = [ops[name].op for name in segments["layer2.0"].nodes]
    assert inside[-2:] == ["aten.add.Tensor", "aten.relu.default"]
    assert "aten.pad.default" in inside


def test_a_plain_chain_has_a_segment_per_layer(mapped: Maps) -> None:
    model_map = mapped("lenet")
    names = [segment.name for segment in model_map.segments]
    assert names == ["conv1", "conv2", "fc1", "fc2", "fc3"]
    ops = [model_map.graph.by_name[name].op for name in model_map.segments[0].nodes]
    assert ops == ["aten.conv2d.default", "aten.relu.default", "aten.max_pool2d.default"]


def test_what_comes_before_the_first_layer_joins_it(mapped: Maps) -> None:
    first = mapped("mlp").segments[0]
    assert mapped("mlp").graph.by_name[first.nodes[0]].op == "aten.view.default"
    assert first.layers == ("layers.1",)


def test_a_graph_without_layers_is_one_segment(read: Callable[..., ModelMap]) -> None:
    model_map = read(nn.Sequential(nn.ReLU(), nn.Tanh()), torch.randn(2, 4))
    assert [(s.name, len(s.nodes), s.layers) for s in model_map.segments] == [("all", 2, ())]


def test_a_mask_that_every_attention_reads_keeps_no_transformer_in_one_segment(
    mapped: Maps,
) -> None:
    block = ("query..layers.{}.proj", "up..layers.{}.down")
    blocks = [f"layers.{i}.{part.format(i)}" for i in range(2) for part in block]
    segments = mapped("encoder").segments
    assert [segment.name for segment in segments] == ["word", *blocks, "head"]


class Again(nn.Module):
    """The same layer at both ends of another."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.between, self.last = (nn.Linear(4, 4) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.shared(torch.relu(self.between(torch.relu(self.shared(x))))))


def test_all_calls_of_a_weight_compute_at_one_precision() -> None:
    model_map = read_model_map(capture(Again().eval(), torch.randn(2, 4)))
    assert [segment.layers for segment in model_map.segments] == [("shared", "between"), ("last",)]
    places = {model_map.segment_of_node[node] for node in model_map.layer_by_name["shared"].nodes}
    assert len(places) == 1


def test_a_block_that_holds_one_of_two_calls_is_no_block() -> None:
    class Blocks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared, self.own = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(x)
            for layer in (self.shared, self.own, self.shared):
                x = x + torch.relu(layer(x))
            return x

    model_map = read_model_map(capture(Blocks().eval(), torch.randn(2, 4)))
    assert [block.layers for block in model_map.blocks] == [("own",)]
