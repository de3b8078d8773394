"""Learned rounding against brute force, and against the rounding it starts from."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from paredown.compressors.matrix.algebra import row_errors
from paredown.compressors.rounding.compensated import gptq
from paredown.compressors.rounding.learned import adaround, learn_codes
from paredown.compressors.rounding.quantize import round_to_nearest, top_code
from paredown.compressors.rounding.target import Target


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_no_row_is_worse_than_rounding_or_gptq_and_the_sum_is_better(
    make_problem: Callable[..., Any], bits: int
) -> None:
    weight, gram = make_problem(0, 24, 60, 400)
    found = row_errors(adaround(Target.of(weight, gram), bits).dense() - weight, gram)
    nearest = round_to_nearest(weight, bits, gram.diagonal())
    plain = row_errors(nearest.dense() - weight, gram)
    swept = row_errors(gptq(Target.of(weight, gram), bits).dense() - weight, gram)
    assert (found <= plain * (1 + 1e-5)).all()
    assert (found <= swept * (1 + 1e-5)).all()
    assert found.sum() < swept.sum()


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_tiny_rows_come_near_the_best_of_all_ways_up_and_down(
    make_problem: Callable[..., Any], bits: int
) -> None:
    top = top_code(bits)
    excess = []
    for seed in range(4):
        weight, gram = make_problem(seed, 6, 8, 60)
        scale = round_to_nearest(weight, bits).scale.double()
        found = learn_codes(
            weight.double().unsqueeze(0), gram.unsqueeze(0), scale.unsqueeze(0), top, None
        )
        errors = row_errors(found[0] * scale.unsqueeze(1) - weight.double(), gram)
        for row in range(6):
            best = _best(weight[row].double(), gram, float(scale[row]), top)
            excess.append(float(errors[row]) / best)
    assert min(excess) >= 1 - 1e-6
    assert sum(ratio <= 1 + 1e-6 for ratio in excess) >= 12
    assert sum(excess) / len(excess) < 1.25


def _best(w: Tensor, gram: Tensor, scale: float, top: int) -> float:
    """The least error of all 2^K ways to round the row up or down."""
    floor = (w / scale).clamp(-top, top).floor().clamp(max=top - 1)
    ups = torch.tensor(list(itertools.product((0.0, 1.0), repeat=len(w)))).double()
    return float(row_errors((floor + ups) * scale - w, gram).min())


def test_codes_are_neighbours_of_the_weights_inside_the_range(
    make_problem: Callable[..., Any],
) -> None:
    weight, gram = make_problem(2, 8, 30, 200)
    found = adaround(Target.of(weight, gram), 3)
    assert int(found.codes.abs().max()) <= 3
    # The scale was fitted once more after the rounding, so a little beyond one step.
    inside = (weight / found.scale.unsqueeze(1)).clamp(-3, 3)
    assert float((found.codes - inside).abs().max()) < 1.5


def test_pruned_weights_stay_zero_and_two_runs_agree(make_problem: Callable[..., Any]) -> None:
    weight, gram = make_problem(3, 6, 30, 100)
    mask = weight.abs() > weight.abs().median()
    found = adaround(Target.of(weight * mask, gram), 3, mask)
    assert not found.codes[~mask].any()
    torch.manual_seed(7)
    again = adaround(Target.of(weight * mask, gram), 3, mask)
    assert torch.equal(again.codes, found.codes)
    assert torch.equal(again.scale, found.scale)


def test_groups_are_rounded_as_if_they_were_layers_of_their_own(
    make_problem: Callable[..., Any],
) -> None:
    first, gram_a = make_problem(5, 4, 9, 60)
    second, gram_b = make_problem(6, 4, 9, 60)
    both = adaround(Target.of(torch.cat([first, second]), torch.stack([gram_a, gram_b])), 3)
    assert torch.equal(both.codes[:4], adaround(Target.of(first, gram_a), 3).codes)
    assert torch.equal(both.codes[4:], adaround(Target.of(second, gram_b), 3).codes)


def test_a_scaled_problem_has_the_same_codes(make_problem: Callable[..., Any]) -> None:
    weight, gram = make_problem(4, 6, 20, 100)
    found = adaround(Target.of(weight, gram), 3).codes
    # Powers of two: exact in floats.
    assert torch.equal(adaround(Target.of(weight * 2**10, gram * 2.0**-20), 3).codes, found)


def test_above_four_bits_it_is_gptq(make_problem: Callable[..., Any]) -> None:
    weight, gram = make_problem(6, 4, 12, 60)
    assert torch.equal(
        adaround(Target.of(weight, gram), 6).codes, gptq(Target.of(weight, gram), 6).codes
    )
