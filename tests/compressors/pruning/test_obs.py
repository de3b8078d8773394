"""Exact OBS against its definition: the inverse Gram recomputed for every support."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from paredown.compressors.matrix.algebra import row_errors
from paredown.compressors.pruning import obs
from paredown.compressors.pruning.obs import Path, obq, refit_support, removal_path
from paredown.compressors.pruning.paths import Paths
from paredown.compressors.pruning.sparsify import exact_obs, magnitude, sparse_gpt
from paredown.compressors.rounding.target import Target

DAMPING = 0.01


def _damped(gram: Tensor) -> Tensor:
    return gram + DAMPING * gram.diagonal().mean() * torch.eye(len(gram)).double()


def _greedy_path(row: Tensor, gram: Tensor) -> tuple[list[int], list[float]]:
    """Removal order and costs of one row, every inverse taken anew."""
    left, weight = list(range(len(row))), row.double().clone()
    order, costs = [], []
    while left:
        inverse = torch.linalg.inv(gram[left][:, left])
        scores = weight[left].square() / inverse.diagonal()
        best = int(scores.argmin())
        order.append(left[best])
        costs.append(float(scores[best]))
        weight[left] = weight[left] - weight[left[best]] / inverse[best, best] * inverse[:, best]
        del left[best]
    return order, costs


def test_the_path_is_that_of_the_definition(make_problem: Callable[..., Any]) -> None:
    weight, gram = make_problem(0, 3, 14, 80)
    path = removal_path(Target.of(weight, gram))
    for row in range(3):
        order, costs = _greedy_path(weight[row], _damped(gram))
        assert path.order[row].tolist() == order
        assert torch.allclose(path.cost[row], torch.tensor(costs).double(), rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize(("keep", "of"), [(0, 0), (2, 4), (1, 2)])
def test_columns_forgotten_on_the_way_change_nothing(
    make_problem: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, keep: int, of: int
) -> None:
    weight, gram = make_problem(4, 5, 50, 300)
    whole, codes = removal_path(Target.of(weight, gram), keep, of), obq(Target.of(weight, gram), 3)
    monkeypatch.setattr(obs, "_STEPS", 7)
    often = removal_path(Target.of(weight, gram), keep, of)
    assert torch.equal(often.order, whole.order)
    assert torch.allclose(often.cost, whole.cost, rtol=1e-3, atol=1e-6)
    assert torch.equal(obq(Target.of(weight, gram), 3).codes, codes.codes)


def test_costs_along_the_path_add_up_to_the_error_of_the_refitted_support(
    make_problem: Callable[..., Any],
) -> None:
    weight, gram = make_problem(1, 4, 20, 200)
    path = removal_path(Target.of(weight, gram))
    mask = torch.ones_like(weight, dtype=torch.bool).scatter_(1, path.order[:, :12], False)
    damped = _damped(gram)
    delta = refit_support(weight, gram, mask).double() - weight.double()
    total = path.cost[:, :12].double().sum(dim=1)
    # Masking first changes the mean diagonal, and so the damping, a little.
    assert torch.allclose(row_errors(delta, damped), total, rtol=0.03)


def test_refitting_never_loses_to_the_plain_slice_and_is_least_squares(
    make_problem: Callable[..., Any],
) -> None:
    weight, gram = make_problem(2, 5, 16, 30)
    mask = torch.rand(5, 16, generator=torch.Generator().manual_seed(0)) < 0.5
    refit = refit_support(weight, gram, mask)
    assert not refit[~mask].any()
    slice_error = row_errors(weight * mask - weight, gram)
    assert (row_errors(refit - weight, gram) <= slice_error + 1e-9).all()


def test_one_path_serves_every_sparsity_and_supports_are_nested(
    make_problem: Callable[..., Any],
) -> None:
    weight, gram = make_problem(3, 6, 24, 150)
    path = removal_path(Target.of(weight, gram))
    masks = [path.mask(removed, 24) for removed in (0, 30, 72, 110, 144)]
    assert [int(mask.sum()) for mask in masks] == [144, 114, 72, 34, 0]
    for more, fewer in pairwise(masks):
        assert not (fewer & ~more).any()


def test_a_cheap_step_behind_a_dear_one_waits_for_it() -> None:
    path = Path(
        order=torch.tensor([[2, 0, 1], [1, 2, 0]]),
        cost=torch.tensor([[5.0, 1.0, 6.0], [2.0, 3.0, 9.0]]),
    )
    gone = [(~path.mask(removed, 3)).int().tolist() for removed in (1, 2, 3, 4)]
    # Row 1 goes first, though row 0's second step alone would be the cheapest of all.
    assert gone[0] == [[0, 0, 0], [0, 1, 0]]
    assert gone[1] == [[0, 0, 0], [0, 1, 1]]
    assert gone[2] == [[0, 0, 1], [0, 1, 1]]
    assert gone[3] == [[1, 0, 1], [0, 1, 1]]


def test_n_of_m_keeps_n_of_every_m(make_problem: Callable[..., Any]) -> None:
    weight, gram = make_problem(4, 5, 27, 150)
    for keep, of in ((2, 4), (1, 4), (4, 8)):
        pattern = f"{keep}:{of}"
        pruned, mask = exact_obs(Target.of(weight, gram), 0.5, pattern, Paths())
        whole = 27 // of * of
        assert (mask[:, :whole].view(5, -1, of).sum(dim=2) == keep).all()
        assert mask[:, whole:].all()
        error = row_errors(pruned - weight, gram).sum()
        swept, _ = sparse_gpt(Target.of(weight, gram), 0.5, pattern)
        assert error <= row_errors(swept - weight, gram).sum()


def test_groups_are_solved_as_if_they_were_layers_of_their_own(
    make_problem: Callable[..., Any],
) -> None:
    first, gram_a = make_problem(5, 4, 9, 60)
    second, gram_b = make_problem(6, 4, 9, 60)
    both, grams = torch.cat([first, second]), torch.stack([gram_a, gram_b])
    path = removal_path(Target.of(both, grams))
    assert torch.equal(path.order[4:], removal_path(Target.of(second, gram_b)).order)
    codes = obq(Target.of(both, grams), 3)
    assert torch.equal(codes.codes[:4], obq(Target.of(first, gram_a), 3).codes)


@pytest.mark.parametrize("sparsity", [0.3, 0.6, 0.9])
def test_exact_obs_beats_sparse_gpt_beats_magnitude(
    make_problem: Callable[..., Any], sparsity: float
) -> None:
    weight, gram = make_problem(7, 16, 64, 500)
    errors = [
        float(row_errors(pruned - weight, gram).sum())
        for pruned, _ in (
            exact_obs(Target.of(weight, gram), sparsity, "element", Paths()),
            sparse_gpt(Target.of(weight, gram), sparsity),
            magnitude(weight, sparsity),
        )
    ]
    assert errors == sorted(errors)


def test_singular_grams_and_dead_inputs_stay_finite(make_problem: Callable[..., Any]) -> None:
    weight, gram = make_problem(8, 4, 30, 5)
    gram[3], gram[:, 3] = 0.0, 0.0
    pruned, mask = exact_obs(Target.of(weight, gram), 0.2, "element", Paths())
    assert torch.isfinite(pruned).all()
    assert not mask[:, 3].any()
    assert torch.isfinite(obq(Target.of(weight, gram), 3, mask).dense()).all()
