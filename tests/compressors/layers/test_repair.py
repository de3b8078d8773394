from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paredown.compressors.layers.repair import (
    Moments,
    RepairError,
    output_moments,
    reestimate,
    repair_rows,
)
from paredown.compressors.matrix.algebra import centred_gram, from_matrix, to_matrix
from paredown.compressors.rounding.quantize import round_to_nearest
from paredown.compressors.statistics.layer_statistics import collect_statistics
from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.storage.stored import StoredTensor
from paredown.spaces.candidates.blueprint import Blueprint, Operator, Storage


def _moments(weight: Tensor, inputs: Tensor) -> Moments:
    mean = inputs.mean(0)
    return output_moments(weight, mean, centred_gram(inputs.t() @ inputs / len(inputs), mean))


def test_rows_get_the_dense_mean_and_deviation_back(make_problem: Callable[..., Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(300, 12, generator=generator, dtype=torch.float64)
    dense = torch.randn(6, 12, generator=generator)
    bias = torch.randn(6, generator=generator)
    weight = round_to_nearest(dense, 2).dense()
    moments = (_moments(matrix, inputs) for matrix in (dense, weight))
    factor, repaired_bias = repair_rows(*moments, bias)
    before = inputs @ dense.double().t() + bias
    after = inputs @ (factor.unsqueeze(1) * weight).double().t() + repaired_bias
    assert torch.allclose(after.mean(0), before.mean(0), atol=1e-5)
    assert torch.allclose(after.std(0), before.std(0), rtol=1e-5)


def test_factors_are_limited_and_dead_rows_keep_their_scale() -> None:
    inputs = torch.randn(100, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inputs[:, 3] = 2.0
    dense = torch.eye(4)
    weight = torch.diag(torch.tensor([0.01, 100.0, 0.0, 0.5]))
    factor, bias = repair_rows(_moments(dense, inputs), _moments(weight, inputs), None)
    assert factor.tolist() == [4.0, 0.25, 1.0, 1.0]
    # A constant input is all mean: the bias takes what the weight lost.
    assert float(bias[3]) == pytest.approx(1.0)


def _two_layers(capture_layers: Callable[..., Any], bits: int) -> tuple[Any, Any, CompressedModel]:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.ReLU(), nn.ConvTranspose2d(6, 4, 2), nn.Flatten(), nn.Linear(100, 3)
    )
    captured, layers = capture_layers(module, torch.zeros(1, 2, 6, 6))
    stored = {name: StoredTensor.of_floats(t) for name, t in captured.tensors.items()}
    for layer in layers:
        weight = captured.tensors[layer.weight]
        found = round_to_nearest(to_matrix(weight, layer), bits)
        if layer.kind == "conv2d":
            stored[layer.weight] = StoredTensor.of_floats(from_matrix(found.dense(), layer))
            continue
        storage = Storage(
            shape=layer.weight_shape, bits=bits, axis=layer.out_axis, kept=weight.numel()
        )
        codes = from_matrix(found.codes, layer)
        stored[layer.weight] = StoredTensor(storage=storage, values=codes, scale=found.scale)
    operators = tuple(
        Operator(
            node=layer.node,
            layer=layer.name,
            part=0,
            weight=layer.weight,
            bias=layer.bias,
            activation_bits=32,
        )
        for layer in layers
    )
    blueprint = Blueprint(
        graph=captured.graph,
        operators=operators,
        storage={name: tensor.storage for name, tensor in stored.items()},
    )
    return captured, layers, CompressedModel(blueprint=blueprint, stored=stored)


def test_reestimation_restores_every_layer_of_a_whole_model(
    capture_layers: Callable[..., Any],
) -> None:
    captured, layers, model = _two_layers(capture_layers, 3)
    inputs = [torch.randn(64, 2, 6, 6, generator=torch.Generator().manual_seed(1))]
    dense = collect_statistics(captured.graph, captured.tensors, layers, [inputs])
    targets = {
        layer.node: (dense[layer.name].output_std, dense[layer.name].output_mean)
        for layer in layers
    }
    repaired = reestimate(model, targets, inputs)
    seen = collect_statistics(captured.graph, repaired.tensors, layers, [inputs])
    stale = collect_statistics(captured.graph, model.tensors, layers, [inputs])
    for layer in layers:
        want, got, before = dense[layer.name], seen[layer.name], stale[layer.name]
        assert torch.allclose(got.output_mean, want.output_mean, atol=1e-5)
        assert torch.allclose(got.output_std, want.output_std, rtol=1e-4)
        assert not torch.allclose(before.output_std, want.output_std, rtol=1e-3)
        if model.stored[layer.weight].scale is not None:
            assert torch.equal(
                repaired.stored[layer.weight].values, model.stored[layer.weight].values
            )


def test_one_position_says_nothing_about_a_deviation_and_scales_stay(
    capture_layers: Callable[..., Any],
) -> None:
    _, layers, model = _two_layers(capture_layers, 3)
    one = [torch.randn(1, 2, 6, 6, generator=torch.Generator().manual_seed(2))]
    last = layers[-1]
    target = {last.node: (torch.ones(3).double(), torch.tensor([1.0, -2.0, 0.5]).double())}
    repaired = reestimate(model, target, one)
    before, after = model.stored[last.weight], repaired.stored[last.weight]
    assert torch.equal(after.dense(), before.dense())
    assert torch.allclose(repaired(one)[0].flatten(), torch.tensor([1.0, -2.0, 0.5]), atol=1e-5)


def test_operators_without_a_target_stay_as_they_are(capture_layers: Callable[..., Any]) -> None:
    _, _, model = _two_layers(capture_layers, 4)
    repaired = reestimate(model, {}, [torch.randn(4, 2, 6, 6)])
    assert all(repaired.stored[name] is tensor for name, tensor in model.stored.items())


def test_scales_along_another_axis_are_refused(capture_layers: Callable[..., Any]) -> None:
    _, layers, model = _two_layers(capture_layers, 4)
    layer = layers[-1]
    wrong = StoredTensor(
        storage=Storage(shape=(3, 100), bits=4, axis=1, kept=300),
        values=torch.ones(3, 100, dtype=torch.int8),
        scale=torch.ones(100),
    )
    broken = CompressedModel(
        blueprint=model.blueprint, stored={**model.stored, layer.weight: wrong}
    )
    with pytest.raises(RepairError, match="output axis 0"):
        reestimate(broken, {layer.node: (torch.ones(3), torch.zeros(3))}, [torch.ones(4, 2, 6, 6)])
