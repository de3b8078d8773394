"""Layers are found with their weight and groups, whatever their arguments' order."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from paredown.hardware_models.work.kinds import groups_of, kind_of, weight_name
from paredown.spaces.capture.capturing import capture
from paredown.spaces.graph.functions import QUANTISERS
from paredown.spaces.graph.graph import GraphError, Node, Ref


@pytest.mark.parametrize(
    ("layer", "shape", "kind", "groups"),
    [
        (nn.Conv2d(4, 8, 3), (2, 4, 5, 5), "conv", 1),
        (nn.Conv2d(4, 8, 3, groups=2), (2, 4, 5, 5), "conv", 2),
        (nn.Conv2d(4, 4, 3, groups=4, padding="same"), (2, 4, 5, 5), "depthwise_conv", 4),
        (nn.Conv1d(4, 8, 3), (2, 4, 5), "conv", 1),
        (nn.ConvTranspose2d(4, 4, 3, groups=4), (2, 4, 5, 5), "conv_transpose", 4),
        (nn.Linear(4, 8), (2, 4), "linear", 1),
    ],
)
def test_a_layer_is_read_off_its_node(layer, shape, kind, groups) -> None:
    captured = capture(nn.Sequential(layer), torch.randn(shape))
    node = captured.graph.nodes[-1]
    assert weight_name(node) == "0.weight"
    assert groups_of(node) == groups
    assert kind_of(node, tuple(layer.weight.shape)) == kind


def test_an_embedding_has_its_weight_first() -> None:
    captured = capture(nn.Sequential(nn.Embedding(5, 3)), torch.zeros(2, 4, dtype=torch.int64))
    (node,) = captured.graph.nodes
    assert (kind_of(node), weight_name(node), groups_of(node)) == ("embedding", "0.weight", 1)


def test_a_norm_is_no_layer_and_a_depthwise_kernel_needs_two_channels() -> None:
    norm = Node(name="y", op="aten.layer_norm.default", args=(Ref("x"), (4,)), shape=(2, 4))
    assert (kind_of(norm), weight_name(norm)) == ("norm", "")
    one = capture(nn.Sequential(nn.Conv2d(1, 1, 3)), torch.randn(2, 1, 5, 5)).graph.nodes[0]
    assert kind_of(one, (1, 1, 3, 3)) == "conv"


@pytest.mark.parametrize("op", QUANTISERS)
def test_rounding_is_no_work_of_its_own(op: str) -> None:
    assert kind_of(Node(name="y", op=op, args=(Ref("x"),), shape=())) is None


def test_what_the_table_does_not_have_is_refused_with_the_remedy() -> None:
    with pytest.raises(GraphError, match=r"'aten\.det\.default'.*add one to spaces/graph"):
        kind_of(Node(name="y", op="aten.det.default", args=(Ref("x"),), shape=()))
