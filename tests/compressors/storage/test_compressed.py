"""A model in memory runs as its module does, on tensors that are made dense once."""

import torch
from torch import nn


def test_an_uncompressed_model_computes_what_its_module_computes(identity):
    module = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))
    x = torch.randn(5, 6)
    model = identity(module, x)
    (found,) = model([x])
    torch.testing.assert_close(found, module(x))


def test_codes_are_made_dense_once_and_other_types_stay(identity, with_weights):
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 3)
            self.register_buffer("offset", torch.tensor([2, 0, 1]))

        def forward(self, x):
            return self.linear(x) + self.offset

    model = with_weights(identity(Masked(), torch.randn(2, 4)), 4, "int4")
    assert model.tensors is model.tensors
    weight = model.stored["linear.weight"]
    assert weight.values.dtype == torch.int8
    torch.testing.assert_close(
        model.tensors["linear.weight"], weight.values.float() * weight.scale[:, None]
    )
    assert model.tensors["offset"].dtype == torch.int64


def test_hooks_see_every_node_in_order_and_may_replace_what_it_computes(identity):
    x = torch.randn(2, 4)
    model = identity(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), x)
    seen = []

    def after(node, arguments, output):
        seen.append(node.name)
        return output + 1

    (found,) = model([x], after=after)
    assert seen == [node.name for node in model.blueprint.graph.nodes]
    plain = x @ model.tensors["0.weight"].T + model.tensors["0.bias"]
    torch.testing.assert_close(found, torch.relu(plain + 1) + 1)
    (zeros,) = model([x], compute=lambda node, arguments: torch.zeros(node.shape))
    assert not zeros.any()
