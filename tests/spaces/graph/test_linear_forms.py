"""Products with a stored matrix are linear layers, with the weight turned."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from paredown.spaces.graph.capturing import capture
from paredown.spaces.graph.hold import check_graph


class Turned(nn.Module):
    """As GPT-2 writes its layers: rows of a matrix, and the weight (in, out)."""

    def __init__(self, ties: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 6))
        self.bias = nn.Parameter(torch.randn(6))
        self.ties = ties

    def forward(self, x: Tensor) -> Tensor:
        y = torch.addmm(self.bias, x.view(-1, 4), self.weight).view(*x.shape[:-1], 6)
        return y + (x[..., None] * self.weight).sum(-2) if self.ties else y


class Product(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Parameter(torch.randn(7, 4))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.head.t()


def test_a_turned_weight_is_a_linear_layer_of_rows_of_any_rank() -> None:
    module, x = Turned(), torch.randn(3, 5, 4)
    found = capture(module, x[:2])
    check_graph(module, found, x)
    assert [node.op for node in found.graph.nodes] == ["aten.linear.default"]
    assert found.graph.nodes[0].shape == (2, 5, 6)
    assert torch.equal(found.tensors["weight"], module.weight.detach().t())


def test_a_matrix_that_something_else_reads_keeps_its_name() -> None:
    module, x = Turned(ties=True), torch.randn(3, 5, 4)
    found = capture(module, x[:2])
    check_graph(module, found, x)
    layer = next(node for node in found.graph.nodes if node.op == "aten.linear.default")
    assert layer.args[1].name == "weight.transposed"


def test_a_product_with_a_transposed_matrix_reads_the_matrix_itself() -> None:
    module, x = Product(), torch.randn(3, 4)
    found = capture(module, x)
    check_graph(module, found, x)
    assert [node.op for node in found.graph.nodes] == ["aten.linear.default"]
    assert [tuple(t.shape) for t in found.tensors.values()] == [(7, 4)]


def test_a_product_of_two_values_stays_one() -> None:
    class Squared(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x @ x.transpose(1, 2)

    assert capture(Squared(), torch.randn(2, 3, 4)).graph.nodes[-1].op == "aten.matmul.default"
