from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from paredown.compressors.matrix import algebra as module
from paredown.compressors.matrix.algebra import (
    SolverError,
    centred_gram,
    damage,
    damped_cholesky,
    from_matrix,
    inverted_triangle,
    power_of_two,
    row_errors,
    to_matrix,
)

LAYERS = [
    (nn.Conv2d(4, 6, 3), (1, 4, 5, 5)),
    (nn.Conv2d(4, 6, 3, groups=2), (1, 4, 5, 5)),
    (nn.Conv1d(4, 6, 3), (1, 4, 5)),
    (nn.ConvTranspose2d(4, 6, 2, stride=2), (1, 4, 5, 5)),
    (nn.ConvTranspose2d(4, 6, (2, 3)), (1, 4, 5, 5)),
    (nn.ConvTranspose1d(4, 6, 3), (1, 4, 5)),
    (nn.Linear(4, 6), (1, 4)),
]


@pytest.mark.parametrize(("module", "shape"), LAYERS)
def test_the_matrix_view_has_a_row_per_output_channel_and_turns_back(
    module: nn.Module, shape: tuple[int, ...], capture_layers: Callable[..., Any]
) -> None:
    captured, (layer,) = capture_layers(module, torch.zeros(shape))
    weight = captured.tensors[layer.weight]
    matrix = to_matrix(weight, layer)
    assert matrix.shape == (6, weight.numel() // 6)
    assert torch.equal(from_matrix(matrix, layer), weight)


def test_an_embedding_has_a_row_per_token(capture_layers: Callable[..., Any]) -> None:
    captured, (layer,) = capture_layers(nn.Embedding(7, 3), torch.tensor([[0, 1]]))
    weight = captured.tensors[layer.weight]
    assert torch.equal(to_matrix(weight, layer), weight)
    assert torch.equal(from_matrix(to_matrix(weight, layer), layer), weight)


def test_row_errors_are_mean_squared_outputs_for_every_form_of_gram() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(50, 2, 5, generator=generator, dtype=torch.float64)
    delta = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    grams = torch.einsum("ngi,ngj->gij", inputs, inputs) / 50
    outputs = torch.einsum("ngk,grk->ngr", inputs, delta.view(2, 3, 5)).reshape(50, 6)
    assert torch.allclose(row_errors(delta, grams), outputs.square().mean(0))
    first = (inputs[:, 0] @ delta.t()).square().mean(0)
    assert torch.allclose(row_errors(delta, grams[0]), first)
    diagonal = grams[0].diagonal()
    assert torch.allclose(row_errors(delta, diagonal), row_errors(delta, torch.diag(diagonal)))


def test_damage_of_a_grouped_layer_is_the_sum_over_its_groups() -> None:
    generator = torch.Generator().manual_seed(1)
    delta = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    grams = torch.stack([torch.eye(3).double(), 2 * torch.eye(3).double()])
    curvature = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    curvature = curvature @ curvature.t()
    parts = [
        damage(delta[:2], grams[0], curvature[:2, :2]),
        damage(delta[2:], grams[1], curvature[2:, 2:]),
    ]
    assert damage(delta, grams, curvature) == pytest.approx(sum(parts))


def test_a_gram_that_is_not_positive_is_damped_until_it_factors() -> None:
    gram = torch.tensor([[1.0, 1.2], [1.2, 1.0]]).double().unsqueeze(0)
    factor = damped_cholesky(gram)
    assert torch.isfinite(factor).all()


def test_a_gram_with_nan_is_refused() -> None:
    with pytest.raises(SolverError, match="finite"):
        damped_cholesky(torch.full((1, 2, 2), torch.nan, dtype=torch.float64))


def test_the_centred_gram_is_the_covariance_and_constant_inputs_are_dead() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(200, 5, generator=generator, dtype=torch.float64)
    x[:, 2] = 0.3
    found = centred_gram(x.t() @ x / 200, x.mean(0))
    assert torch.allclose(found, torch.cov(x.t(), correction=0), atol=1e-12)
    assert not found[2].any()
    assert not found[:, 2].any()
    one_hot = torch.rand(4, generator=generator)
    assert centred_gram(one_hot, one_hot) is one_hot


@pytest.mark.parametrize("rows", [3, 8, 10])
def test_damage_is_the_whole_trace_however_it_is_cut(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_STRIP", 4)
    generator = torch.Generator().manual_seed(rows)
    delta = torch.randn(rows, 5, generator=generator)
    inputs, gradients = (
        torch.randn(20, n, generator=generator, dtype=torch.float64) for n in (5, rows)
    )
    gram, gradient_gram = inputs.t() @ inputs, gradients.t() @ gradients
    wide = delta.double()
    whole = 0.5 * float((wide @ gram @ wide.t() @ gradient_gram).trace())
    assert damage(delta, gram, gradient_gram) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("size", [1, 5, 384, 385, 900])
def test_a_triangle_is_inverted_exactly_and_stays_one(size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    lower = torch.randn(2, size, size, generator=generator, dtype=torch.float64).tril() / size
    lower.diagonal(dim1=1, dim2=2).abs_().add_(1)
    found = inverted_triangle(lower)
    assert torch.equal(found, found.tril())
    eye = torch.eye(size, dtype=torch.float64).expand(2, -1, -1)
    assert torch.allclose(found @ lower, eye, atol=1e-12)


def test_the_unit_of_values_is_a_power_of_two_of_their_size() -> None:
    values = torch.tensor([[3.0, -5.0], [0.0, 0.0], [0.25, 1e-3]], dtype=torch.float64)
    assert power_of_two(values).tolist() == [[8.0], [1.0], [0.5]]
