"""What kind of work an operator is, read off networks as they are captured."""

import pytest
import torch
from torch import nn

from paredown.hardware_models.work.kinds import kind_of
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
def kinds():
    """Kind of every node of `Layers`, by the weight that it reads, or by its operator."""
    captured = capture(Layers(), (torch.zeros(1, 4, 8, 8), torch.zeros(1, dtype=torch.int64)))
    shapes = {name: tuple(tensor.shape) for name, tensor in captured.tensors.items()}
    found = {}
    for node in captured.graph.nodes:
        weight = next((name for name in node.inputs if name.endswith(".weight")), "")
        name = weight.removesuffix(".weight") or node.op.split(".")[1]
        found[name] = kind_of(node, shapes.get(weight, ()))
    return found


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("dense", "conv"),
        ("grouped", "conv"),
        ("depthwise", "depthwise_conv"),
        ("up", "conv_transpose"),
        ("head", "linear"),
        ("table", "embedding"),
        ("relu", "activation"),
        ("mean", "pool"),
        ("add", "add"),
    ],
)
def test_the_kind_of_work_is_that_of_the_module(kinds, name, kind):
    assert kinds[name] == kind


def test_a_single_channel_is_no_depthwise_convolution():
    conv = nn.Conv2d(1, 1, 3)
    captured = capture(conv, torch.zeros(1, 1, 8, 8))
    (node,) = [n for n in captured.graph.nodes if "conv2d" in n.op]
    assert kind_of(node, (1, 1, 3, 3)) == "conv"


def test_an_operator_without_a_kind_is_named():
    node = Node(name="strange", op="aten.fft_fft.default", args=(), shape=())
    with pytest.raises(ValueError, match=r"aten\.fft_fft\.default"):
        kind_of(node)
