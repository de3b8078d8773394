"""What kind of work an operator is, read off networks as they are captured."""

import pytest
import torch
from torch import nn

from paredown.hardware_models.work.kinds import UnknownOperator, groups_of, kind_of, weight_name
from paredown.spaces.graph.capturing import capture
from paredown.spaces.graph.graph import Node


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = nn.Conv2d(4, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.up = nn.ConvTranspose2d(8, 4, 2, groups=4)
        self.head = nn.Linear(4, 3)
        self.table = nn.Embedding(5, 3)

    def forward(self, x, index):
        x = torch.relu(self.up(self.depthwise(self.grouped(self.dense(x)))))
        return self.head(x.mean((2, 3))) + self.table(index)


@pytest.fixture(scope="module")
def layers():
    """(name of the weight, "" for none) -> (kind, groups) of the node that reads it."""
    captured = capture(Layers(), (torch.zeros(1, 4, 8, 8), torch.zeros(1, dtype=torch.int64)))
    shapes = {name: tuple(tensor.shape) for name, tensor in captured.tensors.items()}
    found = {}
    for node in captured.graph.nodes:
        weight = weight_name(node, kind_of(node))
        kind = kind_of(node, shapes.get(weight, ()))
        found.setdefault(weight, []).append((kind, groups_of(node, kind)))
        # The weight is the same whether or not the shape is known.
        assert weight_name(node, kind) == weight
    return found


@pytest.mark.parametrize(
    ("layer", "kind", "groups"),
    [
        ("dense", "conv", 1),
        ("grouped", "conv", 2),
        ("depthwise", "depthwise_conv", 8),
        ("up", "conv_transpose", 4),
        ("head", "linear", 1),
        ("table", "embedding", 1),
    ],
)
def test_a_layer_is_known_by_its_weight_and_its_groups(layers, layer, kind, groups):
    assert layers[f"{layer}.weight"] == [(kind, groups)]


def test_what_has_no_weight_has_a_kind_and_no_groups(layers):
    kinds = dict(layers[""])
    assert {"activation", "pool", "add"} <= kinds.keys()
    assert set(kinds.values()) == {1}


def test_a_single_channel_is_no_depthwise_convolution():
    conv = nn.Conv2d(1, 1, 3)
    captured = capture(conv, torch.zeros(1, 1, 8, 8))
    (node,) = [n for n in captured.graph.nodes if "conv2d" in n.op]
    assert kind_of(node, (1, 1, 3, 3)) == "conv"


def test_an_operator_without_a_kind_is_named():
    node = Node(name="strange", op="aten.fft_fft.default", args=(), shape=())
    with pytest.raises(UnknownOperator, match=r"'aten\.fft_fft\.default' \(node 'strange'\)"):
        kind_of(node)
