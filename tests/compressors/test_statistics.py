from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paredown.compressors.matrix import damage, from_matrix, to_matrix
from paredown.compressors.repair import output_moments
from paredown.compressors.statistics import (
    LayerStatistics,
    StatisticsError,
    collect_statistics,
    draw_labels,
    summed_cross_entropy,
)
from paredown.spaces.graph import run

CONVOLUTIONS: list[tuple[nn.Module, tuple[int, ...]]] = [
    (nn.Conv2d(4, 6, 3, padding=1), (4, 7, 6)),
    (nn.Conv2d(4, 6, (3, 2), stride=2, padding=(1, 0), dilation=(1, 2)), (4, 7, 8)),
    (nn.Conv2d(4, 6, (4, 3), padding="same"), (4, 7, 6)),
    (nn.Conv2d(4, 6, 3, padding="valid", groups=2), (4, 7, 6)),
    (nn.Conv2d(4, 4, 3, padding=1, groups=4), (4, 7, 6)),
    (nn.Conv1d(4, 6, 3, stride=2, padding=1), (4, 9)),
    (nn.Conv1d(4, 6, 4, padding="same", dilation=2), (4, 9)),
    (nn.ConvTranspose2d(4, 6, 2, stride=2), (4, 5, 6)),
    (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1), (4, 5, 6)),
    (nn.ConvTranspose2d(4, 6, (3, 2), stride=(1, 2), dilation=2), (4, 5, 6)),
    (nn.ConvTranspose1d(4, 6, 3, stride=3, padding=1), (4, 5)),
    (nn.Linear(4, 6), (4,)),
    (nn.Linear(4, 6), (3, 4)),
]


@pytest.mark.parametrize(("module", "shape"), CONVOLUTIONS)
def test_input_moments_predict_the_output_moments_of_every_kind_of_layer(
    module: nn.Module, shape: tuple[int, ...], capture_layers: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    batches = [[torch.randn(n, *shape) + 0.3] for n in (5, 2)]
    captured, (layer,) = capture_layers(module, torch.zeros(1, *shape))
    found = collect_statistics(captured.graph, captured.tensors, [layer], batches)[layer.name]
    with torch.no_grad():
        outputs = torch.cat([module(batch) for (batch,) in batches])
    axis = 1 if layer.kind.startswith("conv") else -1
    flat = outputs.double().movedim(axis, 0).flatten(1)
    weight, bias = (captured.tensors[n] for n in (layer.weight, layer.bias))
    mean, variance = output_moments(to_matrix(weight, layer), found)
    assert found.positions == flat.shape[1]
    assert torch.allclose(found.output_mean, flat.mean(1), atol=1e-6)
    assert torch.allclose(found.output_std, flat.std(1, correction=0), rtol=1e-6)
    assert torch.allclose(mean + bias, flat.mean(1), atol=1e-5)
    assert torch.allclose(variance, flat.var(1, correction=0), rtol=1e-4)


def test_the_gram_of_a_convolution_is_that_of_an_explicit_unfold(
    capture_layers: Callable[..., Any],
) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 2, 5, 4)).astype(np.float32)
    module = nn.Conv2d(2, 3, 3, stride=2, padding=1)
    captured, (layer,) = capture_layers(module, torch.zeros(1, 2, 5, 4))
    found = collect_statistics(captured.graph, captured.tensors, [layer], [[torch.from_numpy(x)]])[
        layer.name
    ]
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))).astype(np.float64)
    columns = np.array(
        [
            padded[n, :, i : i + 3, j : j + 3].ravel()
            for n in range(3)
            for i in range(0, 5, 2)
            for j in range(0, 4, 2)
        ]
    )
    assert found.positions == len(columns)
    assert found.gram.dtype == torch.float64
    np.testing.assert_allclose(found.gram, columns.T @ columns / len(columns), atol=1e-6)
    np.testing.assert_allclose(found.input_mean, columns.mean(0), atol=1e-6)


def test_an_embedding_keeps_token_frequencies(capture_layers: Callable[..., Any]) -> None:
    module = nn.Embedding(5, 3)
    captured, (layer,) = capture_layers(module, torch.zeros(1, 2, dtype=torch.int64))
    tokens = torch.tensor([[0, 1], [1, 4]])
    found = collect_statistics(captured.graph, captured.tensors, [layer], [[tokens]])[layer.name]
    assert found.gram.tolist() == [0.25, 0.5, 0.0, 0.0, 0.25]
    mean, variance = output_moments(to_matrix(captured.tensors[layer.weight], layer), found)
    seen = module(tokens).detach().double().flatten(0, 1)
    assert torch.allclose(mean, seen.mean(0), atol=1e-6)
    assert torch.allclose(variance, seen.var(0, correction=0), atol=1e-6)


def test_no_batch_is_refused(capture_layers: Callable[..., Any]) -> None:
    captured, layers = capture_layers(nn.Linear(2, 2), torch.zeros(1, 2))
    with pytest.raises(StatisticsError, match="at least one batch"):
        collect_statistics(captured.graph, captured.tensors, layers, [])


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


def test_drawn_labels_follow_the_softmax_and_the_seed() -> None:
    logits = torch.tensor([0.1, 0.6, 0.3]).log().expand(20000, 3)
    drawn = draw_labels((logits,), torch.Generator().manual_seed(0))
    shares = torch.bincount(drawn, minlength=3) / 20000
    assert torch.allclose(shares, torch.tensor([0.1, 0.6, 0.3]), atol=0.015)
    again = draw_labels((logits,), torch.Generator().manual_seed(0))
    assert torch.equal(drawn, again)
    pixels = torch.zeros(2, 3, 4, 5)
    pair = draw_labels((pixels, pixels), torch.Generator())
    assert [tuple(labels.shape) for labels in pair] == [(2, 4, 5), (2, 4, 5)]


def test_the_loss_of_many_pixels_is_scaled_for_the_fisher() -> None:
    logits, labels = torch.randn(2, 3, 4, 5), torch.zeros(2, 4, 5, dtype=torch.int64)
    expected = F.cross_entropy(logits, labels, reduction="sum") / 20**0.5
    assert torch.allclose(summed_cross_entropy((logits,), labels), expected)


def test_statistics_of_a_narrower_width_are_sub_matrices(
    capture_layers: Callable[..., Any],
) -> None:
    torch.manual_seed(0)
    kept = torch.tensor([0, 2, 5])
    wide, narrow = nn.Conv2d(6, 4, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)
    x = torch.randn(9, 6, 5, 5).relu()
    found = {}
    for name, module, inputs in (("wide", wide, x), ("narrow", narrow, x[:, kept])):
        captured, (layer,) = capture_layers(module, torch.zeros(1, inputs.shape[1], 5, 5))
        found[name] = collect_statistics(
            captured.graph, captured.tensors, [layer], [[inputs[:4]], [inputs[4:]]]
        )[layer.name]
    columns = (kept[:, None] * 9 + torch.arange(9)).flatten()
    assert torch.allclose(
        found["wide"].gram[columns][:, columns], found["narrow"].gram, rtol=1e-6, atol=1e-9
    )
    assert torch.allclose(found["wide"].input_mean[columns], found["narrow"].input_mean, rtol=1e-6)


def test_many_large_inputs_are_summed_without_losing_digits(
    capture_layers: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paredown.compressors.patches._CHUNK_VALUES", 4096)
    captured, (layer,) = capture_layers(nn.Linear(4, 2), torch.zeros(1, 4))
    generator = torch.Generator().manual_seed(0)
    # A mean a thousand times the spread: summed in float32 the small differences would be gone.
    x = 1000.0 + torch.randn(400_000, 4, generator=generator)
    found = collect_statistics(captured.graph, captured.tensors, [layer], [[x]])[layer.name]
    wide = x.double()
    assert torch.allclose(found.gram, wide.t() @ wide / len(x), rtol=2e-7)
    assert torch.allclose(found.input_mean, wide.mean(0), rtol=1e-7)


@pytest.mark.parametrize("width", [383, 384, 500])
def test_a_wide_gram_made_by_halves_is_whole_and_symmetric(
    width: int, capture_layers: Callable[..., Any]
) -> None:
    captured, (layer,) = capture_layers(nn.Linear(width, 2), torch.zeros(1, width))
    x = torch.randn(40, width, generator=torch.Generator().manual_seed(0))
    found = collect_statistics(captured.graph, captured.tensors, [layer], [[x]])[layer.name]
    wide = x.double()
    assert torch.allclose(found.gram, wide.t() @ wide / len(x), rtol=1e-5, atol=1e-6)
    assert torch.equal(found.gram, found.gram.t()) or width < 384


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_finds_the_same_statistics(capture_layers: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4))
    captured, layers = capture_layers(module, torch.zeros(1, 2, 4, 4))
    x = torch.randn(16, 2, 4, 4)
    found = {}
    for device in ("cpu", "cuda"):
        tensors = {name: t.to(device) for name, t in captured.tensors.items()}
        found[device] = collect_statistics(
            captured.graph,
            tensors,
            layers,
            [[x.to(device)]],
            loss=summed_cross_entropy,
            with_curvature=True,
        )
    for name, here in found["cpu"].items():
        there = found["cuda"][name]
        assert there.gram.is_cuda
        for field in ("gram", "input_mean", "output_std", "gradient_gram", "curvature"):
            a, b = getattr(here, field), getattr(there, field).cpu()
            assert torch.allclose(a, b, rtol=1e-3, atol=1e-6)
