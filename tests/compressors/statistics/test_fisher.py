"""Squared gradients are those of autograd, one sample at a time, for every kind of layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paredown.compressors.matrix.algebra import to_matrix
from paredown.compressors.statistics import fisher, patches
from paredown.compressors.statistics.drawn_labels import summed_cross_entropy
from paredown.compressors.statistics.layer_statistics import collect_statistics
from paredown.spaces.graph.graph import run

LAYERS: list[tuple[nn.Module, tuple[int, ...]]] = [
    (nn.Conv2d(4, 6, 3, padding=1), (4, 7, 6)),
    (nn.Conv2d(4, 6, (3, 2), stride=2, padding=(1, 0), dilation=(1, 2)), (4, 7, 8)),
    (nn.Conv2d(4, 6, 3, groups=2), (4, 7, 6)),
    (nn.Conv2d(4, 4, 3, padding=1, groups=4), (4, 7, 6)),
    (nn.Conv1d(4, 6, 4, padding="same", dilation=2), (4, 9)),
    (nn.ConvTranspose2d(4, 6, (3, 2), stride=(1, 2), dilation=2), (4, 5, 6)),
    (nn.ConvTranspose1d(4, 6, 3, stride=3, padding=1), (4, 5)),
    (nn.Linear(4, 6), (4,)),
    (nn.Linear(4, 6), (3, 4)),
]
SAMPLES = 5


def squares(outputs: tuple[Tensor, ...], _: Any) -> Tensor:
    """A loss whose gradient differs from sample to sample."""
    return sum((output.pow(3).sum() for output in outputs), torch.zeros(()))


def one_by_one(captured: Any, layer: Any, inputs: Tensor, loss: Any, targets: Any) -> Tensor:
    """Mean over samples of the squared gradient, (out, K), by one backward pass each."""
    total: Tensor | float = 0.0
    for i in range(len(inputs)):
        weight = captured.tensors[layer.weight].detach().clone().requires_grad_()
        outputs = run(
            captured.graph, captured.tensors | {layer.weight: weight}, [inputs[i : i + 1]]
        )
        loss(outputs, targets if targets is None else targets[i : i + 1]).backward()
        assert weight.grad is not None
        total = total + to_matrix(weight.grad, layer).double().square()
    return torch.as_tensor(total) / len(inputs)


@pytest.mark.parametrize(("module", "shape"), LAYERS)
@pytest.mark.parametrize("chunk", [2**20, 64])
def test_every_kind_of_layer(
    module: nn.Module,
    shape: tuple[int, ...],
    chunk: int,
    capture_layers: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fisher, "_CHUNK_VALUES", chunk)
    monkeypatch.setattr(patches, "_CHUNK_VALUES", chunk)
    torch.manual_seed(0)
    x = torch.randn(SAMPLES, *shape)
    captured, (layer,) = capture_layers(module, torch.zeros(1, *shape))
    found = collect_statistics(
        captured.graph,
        captured.tensors,
        [layer],
        [[part] for part in x.split(3)],
        loss=squares,
        targets=[None, None],
        with_curvature=True,
    )
    expected = one_by_one(captured, layer, x, squares, None)
    curvature = found[layer.name].curvature
    assert curvature is not None
    assert curvature.dtype == torch.float64
    assert curvature.shape == to_matrix(captured.tensors[layer.weight], layer).shape
    assert torch.allclose(curvature, expected, rtol=1e-4, atol=1e-8)


def test_a_token_that_comes_twice_is_summed_before_it_is_squared(
    capture_layers: Callable[..., Any],
) -> None:
    torch.manual_seed(0)
    captured, (layer,) = capture_layers(nn.Embedding(7, 3), torch.zeros(1, 4, dtype=torch.int64))
    tokens = torch.tensor([[0, 1, 1, 6], [1, 4, 0, 0], [2, 2, 2, 2]])
    found = collect_statistics(
        captured.graph,
        captured.tensors,
        [layer],
        [[tokens]],
        loss=squares,
        targets=[None],
        with_curvature=True,
    )
    expected = one_by_one(captured, layer, tokens, squares, None)
    assert torch.allclose(found[layer.name].curvature, expected, rtol=1e-5)


def test_a_whole_network_with_tokens_folded_into_the_batch(
    capture_layers: Callable[..., Any],
) -> None:
    class Folded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.first(x.reshape(-1, 4)).relu().reshape(-1, 5, 6)
            return self.second(hidden.mean(dim=1))

    torch.manual_seed(0)
    captured, layers = capture_layers(Folded(), torch.zeros(2, 5, 4))
    x, labels = torch.randn(6, 5, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    found = collect_statistics(
        captured.graph,
        captured.tensors,
        layers,
        [[x]],
        loss=summed_cross_entropy,
        targets=[labels],
        with_curvature=True,
    )
    for layer in layers:
        expected = one_by_one(captured, layer, x, summed_cross_entropy, labels)
        assert torch.allclose(found[layer.name].curvature, expected, rtol=1e-4, atol=1e-10)


def test_it_is_the_curvature_of_the_loss_with_drawn_labels(
    capture_layers: Callable[..., Any],
) -> None:
    torch.manual_seed(0)
    captured, (layer,) = capture_layers(nn.Linear(6, 4), torch.zeros(1, 6))
    x = torch.randn(2048, 6)
    found = collect_statistics(
        captured.graph,
        captured.tensors,
        [layer],
        [[part] for part in x.split(256)] * 20,
        loss=summed_cross_entropy,
        with_curvature=True,
    )[layer.name]
    # The Hessian of softmax regression in closed form: p (1 - p) x^2, whatever the labels.
    p = F.linear(x, captured.tensors[layer.weight], captured.tensors[layer.bias]).softmax(1)
    expected = ((p * (1 - p)).t() @ x.square() / len(x)).double()
    assert torch.allclose(found.curvature, expected, rtol=0.1)
