"""Gradients in the statistics: those of single samples, whose Fisher predicts what a change costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paredown.compressors.matrix.algebra import damage, from_matrix, to_matrix
from paredown.compressors.statistics.drawn_labels import summed_cross_entropy
from paredown.compressors.statistics.layer_statistics import LayerStatistics, collect_statistics
from paredown.spaces.graph.graph import run


def test_a_layer_beside_the_loss_has_no_curvature(capture_layers: Callable[..., Any]) -> None:
    class TwoHeads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(3, 2), nn.Linear(3, 4)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.used(x), self.idle(x)

    captured, layers = capture_layers(TwoHeads(), torch.zeros(1, 3))
    found = collect_statistics(
        captured.graph,
        captured.tensors,
        layers,
        [[torch.randn(8, 3)]],
        loss=lambda outputs, target: F.cross_entropy(outputs[0], target, reduction="sum"),
        targets=[torch.zeros(8, dtype=torch.int64)],
    )
    assert not found["idle"].gradient_gram.any()
    assert found["idle"].gradient_gram.shape == (4, 4)
    assert found["used"].gradient_gram.any()


def test_gradients_are_those_of_one_sample_whatever_the_batches(
    capture_layers: Callable[..., Any],
) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4))
    captured, layers = capture_layers(module, torch.zeros(1, 2, 4, 4))
    x, target = torch.randn(6, 2, 4, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    hidden = module[0](x)
    hidden.retain_grad()
    F.cross_entropy(module[3](hidden.relu().flatten(1)), target, reduction="sum").backward()
    expected = torch.einsum("nohw,nphw->op", hidden.grad, hidden.grad).double() / 6
    for size in (6, 2):
        found = collect_statistics(
            captured.graph,
            captured.tensors,
            layers,
            [[part] for part in x.split(size)],
            loss=summed_cross_entropy,
            targets=target.split(size),
        )
        assert torch.allclose(found["0"].gradient_gram, expected, atol=1e-6)


def _mean_loss(captured: Any, layer: Any, delta: Tensor, x: Tensor, truth: Tensor) -> float:
    """Cross entropy against the dense model's own probabilities after a change of one layer."""
    weight = captured.tensors[layer.weight].double() + from_matrix(delta, layer)
    tensors = {name: t.double() for name, t in captured.tensors.items()} | {layer.weight: weight}
    with torch.no_grad():
        (logits,) = run(captured.graph, tensors, [x.double()])
    return float(-(truth * logits.log_softmax(1)).sum(1).mean())


def _curvature_of(captured: Any, layers: Any, x: Tensor) -> dict[str, LayerStatistics]:
    batches = [[part] for part in x.split(256)] * 4
    return collect_statistics(
        captured.graph, captured.tensors, layers, batches, loss=summed_cross_entropy, seed=0
    )


def test_damage_of_a_linear_softmax_model_is_the_measured_increase_of_the_loss(
    capture_layers: Callable[..., Any],
) -> None:
    torch.manual_seed(0)
    module = nn.Linear(8, 5)
    with torch.no_grad():
        # Nearly equal logits make inputs and curvature independent, as K-FAC assumes.
        module.weight.mul_(0.2)
    captured, layers = capture_layers(module, torch.zeros(1, 8))
    x = torch.randn(4096, 8)
    found = _curvature_of(captured, layers, x)[layers[0].name]
    truth = module.double()(x.double()).softmax(1).detach()
    module.float()
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        delta = 0.05 * torch.randn(5, 8, generator=generator, dtype=torch.float64)
        increase = _mean_loss(captured, layers[0], delta, x, truth) - _mean_loss(
            captured, layers[0], 0 * delta, x, truth
        )
        assert found.gradient_gram is not None
        assert damage(delta, found.gram, found.gradient_gram) == pytest.approx(increase, rel=0.1)


def test_damage_ranks_changes_of_a_convolutional_network(
    capture_layers: Callable[..., Any],
) -> None:
    torch.manual_seed(1)
    module = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3, stride=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(72, 5),
    )  # fmt: skip
    captured, layers = capture_layers(module, torch.zeros(1, 2, 8, 8))
    x = torch.randn(512, 2, 8, 8)
    statistics = _curvature_of(captured, layers, x)
    truth = module.double()(x.double()).softmax(1).detach()
    module.float()
    predicted, measured = [], []
    for layer in layers:
        found = statistics[layer.name]
        matrix = to_matrix(captured.tensors[layer.weight], layer).double()
        dense = _mean_loss(captured, layer, 0 * matrix, x, truth)
        for step in range(1, 5):
            delta = (
                0.06
                * step
                * matrix.abs().mean()
                * torch.randn(
                    matrix.shape,
                    generator=torch.Generator().manual_seed(step),
                    dtype=torch.float64,
                )
            )
            measured.append(_mean_loss(captured, layer, delta, x, truth) - dense)
            assert found.gradient_gram is not None
            predicted.append(damage(delta, found.gram, found.gradient_gram))
    assert np.corrcoef(np.log(predicted), np.log(measured))[0, 1] > 0.9
