"""A model map finds its layers and segments by name and by node."""

from __future__ import annotations

import math

import pytest

from paredown.spaces.structure.model_map import Layer


def test_layers_and_segments_are_found_by_name_and_node(mapped, zoo_name: str) -> None:
    model_map = mapped(zoo_name)
    for layer in model_map.layers:
        assert model_map.layer_by_name[layer.name] is layer
        assert model_map.layer_by_node[layer.node] is layer
        assert layer.weight_count == math.prod(model_map.tensor_shapes[layer.weight])
        segment = model_map.segment_of_node[layer.node]
        (own,) = [each for each in model_map.segments if layer.name in each.layers]
        assert segment == own.name
    assert list(model_map.segment_of_node) == [node.name for node in model_map.graph.nodes]


@pytest.mark.parametrize(
    ("groups", "shape", "expected"),
    [(8, (8, 1, 3, 3), True), (1, (8, 8, 3, 3), False), (2, (8, 4, 3, 3), False)],
)
def test_a_depthwise_layer_has_a_group_for_each_channel(groups, shape, expected) -> None:
    layer = Layer(
        name="conv",
        nodes=("conv",),
        kind="conv2d",
        weight="conv.weight",
        bias=None,
        weight_shape=shape,
        out_axis=0,
        in_axis=1,
        groups=groups,
        macs=0,
    )
    assert layer.is_depthwise == expected
