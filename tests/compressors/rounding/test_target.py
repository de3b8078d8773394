"""Scales fitted to given codes are those of least squares, and errors those of the matrix itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from paredown.compressors.matrix.algebra import SolverError, row_errors
from paredown.compressors.rounding.quantize import Codes
from paredown.compressors.rounding.target import Target


def _codes(rows: int, columns: int, seed: int) -> Codes:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(-3, 4, (rows, columns), generator=generator, dtype=torch.int8)
    return Codes(codes=codes, scale=torch.rand(rows, generator=generator) + 0.1)


def test_a_refitted_scale_is_the_least_squares_one(make_problem: Callable[..., Any]) -> None:
    weight, gram = make_problem(2, 4, 6, 60)
    codes = Codes(codes=weight.sign().to(torch.int8), scale=torch.ones(4))
    found = Target.of(weight, gram).refit(codes)
    root = torch.linalg.cholesky(gram).t()
    for row in range(4):
        column = (root @ codes.codes[row].double()).unsqueeze(1)
        best = torch.linalg.lstsq(column, (root @ weight[row].double()).unsqueeze(1)).solution
        assert float(found.codes.scale[row]) == pytest.approx(float(best), rel=1e-6)
    assert torch.allclose(found.error, row_errors(found.codes.dense() - weight, gram), rtol=1e-5)


def test_the_better_of_two_is_taken_row_by_row_with_its_product(
    make_problem: Callable[..., Any],
) -> None:
    weight, gram = make_problem(3, 30, 6, 60)
    target = Target.of(weight, gram)
    first, second = (target.refit(_codes(30, 6, seed)) for seed in (0, 1))
    better = first.or_better(second)
    assert torch.equal(better.error, torch.minimum(first.error, second.error))
    assert 0 < int((better.error == first.error).sum()) < 30
    assert torch.allclose(better.codes.product, better.codes.codes.double() @ gram)
    assert torch.allclose(better.error, row_errors(better.codes.dense() - weight, gram), rtol=1e-5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(make_problem: Callable[..., Any], value: float) -> None:
    weight, gram = make_problem(0, 2, 5, 40)
    weight[1, 1] = value
    with pytest.raises(SolverError, match="must be finite"):
        _ = Target.of(weight, gram).seen
