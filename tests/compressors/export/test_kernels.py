"""The runtime gives every kernel that a blueprint promises; a planted fault is seen."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from paredown.compressors.export.codes import arrange
from paredown.compressors.export.kernels import integer_kernels, kernels, promised_kernels
from paredown.compressors.export.lowering import lower
from paredown.spaces.graph import QDQ


class Zoo(nn.Module):
    """Branches, products, concatenation, pools and layouts between integer layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.left = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.right = nn.Conv2d(16, 16, 1)
        self.gate = nn.Conv2d(16, 16, 1)
        self.head = nn.Linear(32 * 16, 8)
        self.last = nn.Linear(8, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.relu6(self.stem(x))
        x = nn.functional.max_pool2d(x, 2)
        left, right = self.left(x), torch.relu(self.right(x))
        gated = left * torch.sigmoid(self.gate(x))
        y = torch.cat([gated, right], 1)
        y = nn.functional.avg_pool2d(nn.functional.interpolate(y, scale_factor=2.0), 8)
        return self.last(torch.relu(self.head(y.flatten(1))))


def serialised(model) -> bytes:
    return lower(model).SerializeToString()


def test_an_integer_resnet_has_only_integer_kernels(
    resnet_model, with_weights, with_codes
) -> None:
    x = torch.randn(2, 3, 32, 32)
    model = with_codes(with_weights(resnet_model, 8, "int8"), x)
    expected = Counter(QLinearConv=7, QLinearAdd=3, QLinearGlobalAveragePool=1, QGemm=1)
    assert promised_kernels(model.blueprint) == expected
    found = kernels(serialised(model))
    assert integer_kernels(serialised(model)) == expected
    assert found["DequantizeLinear"] == 0
    assert found["QuantizeLinear"] == 1
    assert found["Relu"] == 0


def test_a_net_of_many_operators_gets_what_is_promised(identity, with_weights, with_codes) -> None:
    x = torch.randn(2, 3, 32, 32)
    model = with_codes(with_weights(identity(Zoo(), x), 8, "int8"), x)
    promised = promised_kernels(model.blueprint)
    assert promised["QLinearConv"] == 3  # the gate ends in a float sigmoid
    assert promised["QGemm"] == 2
    found = integer_kernels(serialised(model))
    assert found >= promised, (found, promised)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(4, 8), (4, 5, 8)])
def test_linear_layers_get_what_is_promised(
    shape, bias, identity, with_weights, with_codes
) -> None:
    x = torch.randn(shape)
    module = nn.Sequential(nn.Linear(8, 16, bias), nn.ReLU(), nn.Linear(16, 3, bias))
    model = with_codes(with_weights(identity(module, x), 8, "int8"), x)
    promised = promised_kernels(model.blueprint)
    assert sum(promised.values()) == 2
    assert integer_kernels(serialised(model)) == promised


def test_a_float_model_is_promised_nothing(resnet_model, with_weights) -> None:
    model = with_weights(resnet_model, 8, "int8")
    assert not promised_kernels(model.blueprint)
    assert not integer_kernels(serialised(model))


def test_integer_weights_under_float_activations_become_matmulnbits(
    identity, with_weights
) -> None:
    x = torch.randn(1, 64)
    model = with_weights(identity(nn.Linear(64, 32), x), 4, "int4")
    assert kernels(serialised(model))["MatMulNBits"] == 1


def test_a_lost_output_quantisation_is_seen(resnet_model, with_weights, with_codes) -> None:
    x = torch.randn(2, 3, 32, 32)
    model = with_codes(with_weights(resnet_model, 8, "int8"), x)
    promised = promised_kernels(model.blueprint)
    proto = lower(model)
    relu = next(node for node in proto.graph.node if node.op_type == "Relu")
    relu.op_type = "Elu"  # no integer kernel ends in it
    assert not integer_kernels(proto.SerializeToString()) >= promised


def test_quantisation_moves_above_layouts_without_changing_a_bit(
    resnet_model, with_weights, with_codes
) -> None:
    x = torch.randn(2, 3, 32, 32)
    model = with_codes(with_weights(resnet_model, 8, "int8"), x)
    arranged = replace(
        model, blueprint=replace(model.blueprint, graph=arrange(model.blueprint.graph))
    )
    assert torch.equal(arranged([x])[0], model([x])[0])
    follows = {n.args[0].name for n in arranged.blueprint.graph.nodes if n.op == QDQ}
    assert "view" in {n.args[0].name for n in model.blueprint.graph.nodes if n.op == QDQ}
    assert "view" not in follows
    assert "avg_pool2d" in follows
