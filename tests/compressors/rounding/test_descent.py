from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from paredown.compressors.matrix.algebra import row_errors
from paredown.compressors.rounding.compensated import gptq
from paredown.compressors.rounding.descent import descend, descend_codes
from paredown.compressors.rounding.target import Target


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_no_row_is_worse_than_gptq_and_the_sum_is_clearly_better(
    make_problem: Callable[..., Any], bits: int
) -> None:
    weight, gram = make_problem(0, 24, 60, 400)
    found = row_errors(descend(Target.of(weight, gram), bits).dense() - weight, gram)
    swept = row_errors(gptq(Target.of(weight, gram), bits).dense() - weight, gram)
    assert (found <= swept * (1 + 1e-5)).all()
    assert found.sum() < 0.95 * swept.sum()


def test_the_end_is_a_point_that_no_single_code_improves(make_problem: Callable[..., Any]) -> None:
    weight, gram = make_problem(1, 3, 8, 50)
    weight = weight.double()
    scale = weight.abs().amax(dim=1, keepdim=True).t() / 3
    codes, scale = descend_codes(
        weight.unsqueeze(0), gram.unsqueeze(0), torch.zeros(1, 3, 8).double(), scale, 3, sweeps=100
    )
    least = _errors(codes[0], scale[0], weight, gram)
    for column, code in itertools.product(range(8), range(-3, 4)):
        other = codes[0].clone()
        other[:, column] = code
        assert (_errors(other, scale[0], weight, gram) >= least - 1e-9).all()


def test_one_bit_ends_where_turning_no_single_sign_helps(make_problem: Callable[..., Any]) -> None:
    weight, gram = make_problem(1, 4, 12, 60)
    weight = weight.double()
    scale = weight.abs().mean(dim=1).unsqueeze(0)
    start = torch.where(weight < 0, -1.0, 1.0).double()
    codes, scale = descend_codes(
        weight.unsqueeze(0), gram.unsqueeze(0), start.unsqueeze(0), scale, 1, sweeps=100
    )
    assert torch.equal(codes.abs(), torch.ones_like(codes))
    least = _errors(codes[0], scale[0], weight, gram)
    assert (least <= _errors(start, weight.abs().mean(dim=1), weight, gram) + 1e-9).all()
    for column in range(12):
        other = codes[0].clone()
        other[:, column] *= -1
        assert (_errors(other, scale[0], weight, gram) >= least - 1e-9).all()


@pytest.mark.parametrize("bits", [1, 2])
def test_no_sweep_raises_the_error(make_problem: Callable[..., Any], bits: int) -> None:
    weight, gram = make_problem(2, 6, 30, 100)
    weight = weight.double()
    scale = weight.abs().amax(dim=1).unsqueeze(0)
    start = torch.ones(6, 30).double() if bits == 1 else torch.zeros(6, 30).double()
    codes = start.unsqueeze(0)
    before = _errors(start, scale[0], weight, gram)
    for _ in range(5):
        codes, scale = descend_codes(
            weight.unsqueeze(0), gram.unsqueeze(0), codes, scale, bits, sweeps=1
        )
        after = _errors(codes[0], scale[0], weight, gram)
        assert (after <= before + 1e-9).all()
        before = after


def test_pruned_weights_stay_zero(make_problem: Callable[..., Any]) -> None:
    weight, gram = make_problem(3, 6, 30, 100)
    mask = weight.abs() > weight.abs().median()
    assert not descend(Target.of(weight, gram), 3, mask).codes[~mask].any()


def _errors(codes: Tensor, scale: Tensor, weight: Tensor, gram: Tensor) -> Tensor:
    return row_errors(codes * scale.unsqueeze(1) - weight, gram)
