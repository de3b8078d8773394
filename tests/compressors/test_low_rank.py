from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from paredown.compressors.low_rank import (
    discarded_energy,
    factor_shapes,
    second_statistics,
    whitened_svd,
)
from paredown.compressors.matrix import SolverError, row_errors
from paredown.compressors.statistics import LayerStatistics


@pytest.mark.parametrize("shape", [(12, 30), (30, 12)])
def test_the_error_is_the_discarded_energy_and_below_plain_svd(
    make_problem: Callable[..., Any], shape: tuple[int, int]
) -> None:
    weight, gram = make_problem(0, *shape, 200)
    weight = weight.double()
    tails = discarded_energy(weight, gram)
    whole = torch.linalg.svd(weight)
    root = torch.linalg.cholesky(gram)
    singular = torch.linalg.svdvals(weight @ root)
    for rank in range(1, 13):
        first, second = whitened_svd(weight, gram, rank)
        assert first.shape == (rank, shape[1])
        assert second.shape == (shape[0], rank)
        error = float(row_errors(second @ first - weight, gram).sum())
        assert error == pytest.approx(float(singular[rank:].square().sum()), rel=1e-6, abs=1e-7)
        assert error == pytest.approx(float(tails[rank]), rel=1e-6, abs=1e-7)
        plain = whole.U[:, :rank] @ torch.diag(whole.S[:rank]) @ whole.Vh[:rank]
        assert error <= float(row_errors(plain - weight, gram).sum()) + 1e-7


def test_a_singular_gram_and_a_zero_weight_are_no_special_case(
    make_problem: Callable[..., Any],
) -> None:
    weight, gram = make_problem(1, 8, 20, 3)
    first, second = whitened_svd(weight, gram, 3)
    error = row_errors(second @ first - weight, gram).sum()
    assert float(error) <= 1e-9 * float(row_errors(weight, gram).sum())
    first, second = whitened_svd(torch.zeros(8, 20), gram, 2)
    assert not (second @ first).any()


def test_factors_of_a_convolution_are_a_convolution_and_a_pointwise_one() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 4, 3, 3, generator=generator)
    first, second = whitened_svd(weight.reshape(6, -1), torch.eye(36).double(), 6)
    shapes = factor_shapes("conv2d", (6, 4, 3, 3), 6)
    x = torch.randn(2, 4, 7, 7, generator=generator)
    narrow = F.conv2d(x, first.reshape(shapes[0]), stride=2, padding=1)
    factored = F.conv2d(narrow, second.reshape(shapes[1]))
    assert torch.allclose(factored, F.conv2d(x, weight, stride=2, padding=1), atol=1e-4)


def test_the_second_factor_sees_the_outputs_of_the_first() -> None:
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(40, 5, generator=generator, dtype=torch.float64)
    first = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    zeros = torch.zeros(2).double()
    statistics = LayerStatistics(
        gram=inputs.t() @ inputs / 40,
        input_mean=inputs.mean(0),
        output_mean=zeros,
        output_std=zeros,
        gradient_gram=None,
        positions=40,
    )
    found = second_statistics(statistics, first)
    outputs = inputs @ first.t()
    assert torch.allclose(found.gram, outputs.t() @ outputs / 40)
    assert torch.allclose(found.input_mean, outputs.mean(0))


def test_ranks_and_layers_without_a_low_rank_form_are_refused() -> None:
    with pytest.raises(SolverError, match="rank must be 1 to 3"):
        whitened_svd(torch.ones(3, 4), torch.eye(4).double(), 4)
    with pytest.raises(SolverError, match="grouped"):
        whitened_svd(torch.ones(4, 4), torch.eye(4).double().expand(2, 4, 4), 1)
    with pytest.raises(SolverError, match="embedding"):
        factor_shapes("embedding", (10, 4), 2)
