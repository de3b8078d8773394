from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from paredown.compressors.layers.narrowed import Inputs
from paredown.compressors.matrix.algebra import to_matrix
from paredown.compressors.statistics.drawn_labels import summed_cross_entropy
from paredown.compressors.statistics.layer_statistics import (
    LayerStatistics,
    StatisticsError,
    collect_statistics,
)
from paredown.spaces.capture.capturing import Captured
from paredown.spaces.structure.model_map import Layer

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


class Beside(nn.Module):
    """Modules beside each other, each with an input of its own: one trace for all of them."""

    def __init__(self, modules: list[nn.Module]) -> None:
        super().__init__()
        self.each = nn.ModuleList(modules)

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(module(x) for module, x in zip(self.each, inputs, strict=True))


@pytest.fixture(scope="module")
def beside(
    capture_layers: Callable[..., Any],
) -> tuple[Captured, tuple[Layer, ...], list[list[Tensor]], dict[str, LayerStatistics]]:
    """Capture and layers of all `CONVOLUTIONS`, two batches of inputs, and the statistics of these."""
    torch.manual_seed(0)
    shapes = [shape for _, shape in CONVOLUTIONS]
    batches = [[torch.randn(n, *shape) + 0.3 for shape in shapes] for n in (5, 2)]
    example = tuple(torch.zeros(1, *shape) for shape in shapes)
    captured, layers = capture_layers(Beside([module for module, _ in CONVOLUTIONS]), (example,))
    found = collect_statistics(captured.graph, captured.tensors, layers, batches)
    return captured, layers, batches, found


@pytest.mark.parametrize("index", range(len(CONVOLUTIONS)), ids=lambda i: f"{CONVOLUTIONS[i][0]}")
def test_input_moments_predict_the_output_moments_of_every_kind_of_layer(
    index: int, beside: Any
) -> None:
    captured, layers, batches, statistics = beside
    module, layer = CONVOLUTIONS[index][0], layers[index]
    found = statistics[layer.name]
    with torch.no_grad():
        outputs = torch.cat([module(batch[index]) for batch in batches])
    axis = 1 if layer.kind.startswith("conv") else -1
    flat = outputs.double().movedim(axis, 0).flatten(1)
    weight, bias = (captured.tensors[n] for n in (layer.weight, layer.bias))
    mean, variance = Inputs(statistics=found, has_bias=True).moments(to_matrix(weight, layer))
    assert layer.name == f"each.{index}"
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


class Words(nn.Module):
    """The classes of a mean word."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.out = nn.Embedding(5, 3), nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.table(x)).mean(1))


def test_damage_of_a_table_is_token_frequencies_beside_gradients(
    capture_layers: Callable[..., Any],
) -> None:
    torch.manual_seed(0)
    module, tokens = Words().eval(), torch.tensor([[0, 1], [1, 4]])
    labels = torch.tensor([2, 0])
    captured, layers = capture_layers(module, torch.zeros(1, 2, dtype=torch.int64))
    bare = collect_statistics(captured.graph, captured.tensors, layers, [[tokens]])["table"]
    assert torch.equal(bare.gram, torch.eye(3).double())
    found = collect_statistics(
        captured.graph, captured.tensors, layers, [[tokens]], summed_cross_entropy, [labels]
    )["table"]
    assert found.gradient_gram is not None
    assert found.gradient_gram.tolist() == [0.25, 0.5, 0.0, 0.0, 0.25]
    looked_up = module.table(tokens).detach().requires_grad_()
    logits = module.out(torch.tanh(looked_up).mean(1))
    nn.functional.cross_entropy(logits, labels, reduction="sum").backward()
    assert looked_up.grad is not None
    gradients = looked_up.grad.flatten(0, 1).double()
    torch.testing.assert_close(found.gram, gradients.T @ gradients / 2, rtol=1e-4, atol=1e-7)
    rows = looked_up.detach().flatten(0, 1).double()
    torch.testing.assert_close(found.output_mean, rows.mean(0), rtol=1e-5, atol=1e-6)


def test_no_batch_is_refused(capture_layers: Callable[..., Any]) -> None:
    captured, layers = capture_layers(nn.Linear(2, 2), torch.zeros(1, 2))
    with pytest.raises(StatisticsError, match="at least one batch"):
        collect_statistics(captured.graph, captured.tensors, layers, [])


def test_batches_without_a_target_are_refused(capture_layers: Callable[..., Any]) -> None:
    captured, layers = capture_layers(nn.Linear(2, 2), torch.zeros(1, 2))
    batches, targets = [[torch.ones(3, 2)]] * 2, [torch.zeros(3, dtype=torch.int64)]
    with pytest.raises(ValueError, match="shorter"):
        collect_statistics(
            captured.graph, captured.tensors, layers, batches, summed_cross_entropy, targets
        )


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
    monkeypatch.setattr("paredown.compressors.statistics.patches._CHUNK_VALUES", 4096)
    captured, (layer,) = capture_layers(nn.Linear(4, 2), torch.zeros(1, 4))
    generator = torch.Generator().manual_seed(0)
    # A mean a thousand times the spread: summed in float32 the small differences would be gone.
    x = 1000.0 + torch.randn(400_000, 4, generator=generator)
    found = collect_statistics(captured.graph, captured.tensors, [layer], [[x]])[layer.name]
    wide = x.double()
    assert torch.allclose(found.gram, wide.t() @ wide / len(x), rtol=2e-7)
    assert torch.allclose(found.input_mean, wide.mean(0), rtol=1e-7)


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


class Twice(nn.Module):
    """One linear layer on both halves of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.out = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(
            torch.tanh(self.shared(x[:, :4])) + torch.tanh(self.shared(x[:, 4:])).neg()
        )


def test_statistics_of_a_shared_weight_are_those_of_its_calls_put_together(
    capture_layers: Callable[[nn.Module, Any], tuple[Captured, tuple[Layer, ...]]],
) -> None:
    torch.manual_seed(0)
    module, x, labels = Twice().eval(), torch.randn(20, 8), torch.randint(3, (20,))
    captured, layers = capture_layers(module, torch.randn(2, 8))
    found = collect_statistics(
        captured.graph,
        captured.tensors,
        layers,
        [[x[:8]], [x[8:]]],
        summed_cross_entropy,
        [labels[:8], labels[8:]],
    )["shared"]
    both = torch.cat([x[:, :4], x[:, 4:]])
    outputs = [module.shared(part).detach().requires_grad_() for part in (x[:, :4], x[:, 4:])]
    logits = module.out(torch.tanh(outputs[0]) + torch.tanh(outputs[1]).neg())
    nn.functional.cross_entropy(logits, labels, reduction="sum").backward()
    gradients = torch.cat([each.grad for each in outputs if each.grad is not None]).double()
    given = torch.cat(outputs).detach().double()
    torch.testing.assert_close(found.gram, (both.T @ both / 40).double(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.input_mean, both.mean(0).double(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.output_mean, given.mean(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.output_std, given.std(0, correction=0), rtol=1e-5, atol=1e-6)
    assert found.gradient_gram is not None
    torch.testing.assert_close(
        found.gradient_gram, gradients.T @ gradients / 20, rtol=1e-4, atol=1e-6
    )
    assert found.positions == 40
