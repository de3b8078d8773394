"""What was read off a model: layers by name and node, segments by node, sizes as torch has them."""

import math

import pytest
import torch
from torch import nn

from paredown.spaces.structure.model_map import Layer


def test_layers_are_found_by_their_name_and_their_node(mapped, zoo_name):
    model_map = mapped(zoo_name)
    assert len(model_map.layer_by_name) == len(model_map.layer_by_node) == len(model_map.layers)
    for layer in model_map.layers:
        assert model_map.layer_by_name[layer.name] is layer
        assert model_map.layer_by_node[layer.node] is layer
        assert layer.weight in model_map.graph.by_name[layer.node].inputs


def test_every_node_names_the_segment_that_lists_it(mapped, zoo_name):
    model_map = mapped(zoo_name)
    names = {node.name for node in model_map.graph.nodes}
    assert set(model_map.segment_of_node) == names
    for segment in model_map.segments:
        assert {model_map.segment_of_node[node] for node in segment.nodes} == {segment.name}


def test_a_layer_has_as_many_weights_as_its_module(zoo, mapped, zoo_name):
    module = zoo[zoo_name][0]()
    parameters = dict(module.named_parameters())
    for layer in mapped(zoo_name).layers:
        if layer.weight in parameters:
            assert layer.weight_count == parameters[layer.weight].numel()


@pytest.mark.parametrize(
    ("module", "is_depthwise"),
    [
        (nn.Conv2d(8, 8, 3, groups=8), True),
        # Two outputs of each input: not each output is a group.
        (nn.Conv2d(8, 16, 3, groups=8), False),
        (nn.Conv2d(8, 8, 3, groups=4), False),
        (nn.Conv2d(1, 1, 3), False),
    ],
)
def test_depthwise_is_a_group_for_each_entry_of_the_first_axis(read, module, is_depthwise):
    net = nn.Sequential(module, nn.ReLU(), nn.Conv2d(module.out_channels, 2, 1))
    layer = read(net, torch.randn(2, module.in_channels, 8, 8)).layer_by_name["0"]
    assert layer.is_depthwise is is_depthwise
    assert layer.weight_count == module.weight.numel()


def test_a_weight_without_entries_counts_none():
    layer = Layer(
        name="a",
        node="a",
        kind="linear",
        weight="a.weight",
        bias=None,
        weight_shape=(3, 0),
        out_axis=0,
        in_axis=1,
        groups=1,
        macs=0,
    )
    assert layer.weight_count == math.prod((3, 0)) == 0
