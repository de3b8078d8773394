"""Zeros and codes together: never worse than in turn, and near the best there is."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from paredown.compressors.layers.methods import METHODS, Compressed, Problem
from paredown.compressors.matrix.algebra import row_errors
from paredown.compressors.pruning.joint import improve_jointly, zeros_among
from paredown.compressors.pruning.paths import Paths
from paredown.compressors.pruning.sparsify import magnitude, sparse_gpt
from paredown.compressors.rounding.descent import descend
from paredown.compressors.rounding.target import Target
from paredown.spaces.candidates.candidate import LayerChoice
from paredown.spaces.candidates.zeros import Zeros


@pytest.mark.parametrize(("bits", "sparsity"), [(2, 0.5), (2, 0.8), (3, 0.6), (4, 0.8)])
def test_it_improves_on_pruning_then_rounding_at_the_same_count(
    make_problem: Callable[..., Any], bits: int, sparsity: float
) -> None:
    weight, gram = make_problem(0, 16, 48, 300)
    _, mask = sparse_gpt(Target.of(weight, gram), sparsity)
    start = descend(Target.of(weight, gram), bits, mask)
    found, kept = improve_jointly(Target.of(weight, gram), bits, [(start, mask)])
    assert int(kept.sum()) == int(mask.sum())
    assert not found.codes[~kept].any()
    assert int(found.codes.abs().max()) <= 2 ** (bits - 1) - 1
    before = row_errors(start.dense() - weight, gram).sum()
    assert row_errors(found.dense() - weight, gram).sum() < before


@pytest.mark.parametrize(("bits", "sparsity"), [(2, 0.5), (3, 0.7)])
def test_the_method_is_no_worse_than_either_order(
    make_problem: Callable[..., Any], bits: int, sparsity: float
) -> None:
    weight, gram = make_problem(1, 12, 40, 300)
    problem = Problem(target=Target.of(weight, gram))
    choice = LayerChoice(weight_bits=bits, zeros=Zeros(sparsity, "element"), method="joint")
    jointly = METHODS["joint"](problem, choice)
    kept = int(jointly.mask.sum())
    target = Target.of(weight, gram)
    codes, mask = zeros_among(target, bits, descend(target, bits), kept, Paths())
    assert int(mask.sum()) == kept
    assert not codes.codes[~mask].any()
    other = Compressed(values=codes.codes, scale=codes.scale, mask=mask)
    in_turn = METHODS["descent"](problem, choice)
    least = min(float(problem.error(other)), float(problem.error(in_turn)))
    assert float(problem.error(jointly)) <= least * (1 + 1e-6)


def test_small_instances_come_near_the_best_of_all_codes(make_problem: Callable[..., Any]) -> None:
    close = 0
    for seed in range(10):
        weight, gram = make_problem(seed, 1, 6, 60)
        _, mask = magnitude(weight, 0.5)
        start = descend(Target.of(weight, gram), 2, mask)
        found, _ = improve_jointly(Target.of(weight, gram), 2, [(start, mask)])
        error = float(row_errors(found.dense() - weight, gram))
        best = _brute_force(weight[0].double(), gram, 3)
        assert error >= best - 1e-6
        close += error <= 1.25 * best
    assert close >= 7


def _brute_force(w: Tensor, gram: Tensor, kept: int) -> float:
    best = float(w @ gram @ w)
    for codes in itertools.product((-1.0, 0.0, 1.0), repeat=len(w)):
        b = torch.tensor(codes).double()
        size, overlap = float(b @ gram @ b), float(b @ gram @ w)
        if size > 0 and overlap > 0 and int((b != 0).sum()) <= kept:
            delta = b * overlap / size - w
            best = min(best, float(delta @ gram @ delta))
    return best
