"""Blocks by exact OBS against its definition: least squares on what is left, every inverse anew."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from paredown.compressors.matrix.algebra import row_errors
from paredown.compressors.pruning import obs
from paredown.compressors.pruning.block_obs import block_path, corners, removal_costs
from paredown.compressors.pruning.paths import Paths
from paredown.compressors.pruning.sparsify import exact_obs, magnitude
from paredown.compressors.rounding.target import Target
from paredown.spaces.candidates.zeros import BLOCK

DAMPING = 0.01


def _damped(gram: Tensor) -> Tensor:
    return gram + DAMPING * gram.diagonal().mean() * torch.eye(len(gram)).double()


def _least_error(row: Tensor, gram: Tensor, gone: list[int]) -> float:
    """Error of the best row that is zero at `gone`, by the normal equations of the columns left."""
    left = [i for i in range(len(row)) if i not in gone]
    row = row.double()
    delta = -row.clone()
    if left:
        missing = gram[left][:, gone] @ row[gone]
        delta[left] = torch.linalg.solve(gram[left][:, left], missing)
    return float(delta @ gram @ delta)


def _columns(blocks: list[int]) -> list[int]:
    return [block * BLOCK + i for block in blocks for i in range(BLOCK)]


def test_the_cost_of_one_block_is_the_rise_of_the_least_squares_error(
    make_problem: Callable[..., Any],
) -> None:
    weight, gram = make_problem(0, 3, 14, 80)
    inverse = torch.linalg.inv(_damped(gram))
    tiles = weight[:, :12].double().unflatten(1, (3, BLOCK))
    costs = removal_costs(tiles, corners(inverse, BLOCK).unsqueeze(0))
    for row in range(3):
        for block in range(3):
            expected = _least_error(weight[row], _damped(gram), _columns([block]))
            assert float(costs[row, block]) == pytest.approx(expected, rel=1e-6)


def test_the_path_is_greedy_and_its_costs_add_up_to_least_squares(
    make_problem: Callable[..., Any],
) -> None:
    weight, gram = make_problem(1, 4, 18, 90)
    path = block_path(Target.of(weight, gram))
    assert path.order.shape == (4, 4)
    for row in range(4):
        gone: list[int] = []
        for step in range(4):
            rises = {
                block: _least_error(weight[row], _damped(gram), _columns([*gone, block]))
                for block in range(4)
                if block not in gone
            }
            chosen = int(path.order[row, step])
            assert rises[chosen] <= min(rises.values()) * (1 + 1e-3)
            gone.append(chosen)
            total = float(path.cost[row, : step + 1].double().sum())
            assert total == pytest.approx(rises[chosen], rel=2e-3)


def test_small_rows_come_near_the_best_choice_of_blocks(make_problem: Callable[..., Any]) -> None:
    excess = []
    for seed in range(12):
        weight, gram = make_problem(seed, 1, 24, 120)
        _, mask = exact_obs(Target.of(weight, gram), 0.5, "block", Paths())
        kept = [block for block in range(6) if mask[0, block * BLOCK]]
        gone = [block for block in range(6) if block not in kept]
        best = min(
            _least_error(weight[0], gram, _columns(list(blocks)))
            for blocks in combinations(range(6), 3)
        )
        excess.append(_least_error(weight[0], gram, _columns(gone)) / best)
    assert min(excess) >= 1 - 1e-6
    assert sum(excess) / len(excess) < 1.1


def test_one_path_serves_every_sparsity_and_supports_are_nested(
    make_problem: Callable[..., Any],
) -> None:
    weight, gram = make_problem(3, 6, 27, 150)
    target, paths = Target.of(weight, gram), Paths()
    shares = (0.0, 0.25, 0.5, 0.75, 0.9)
    masks = [exact_obs(target, share, "block", paths)[1] for share in shares]
    assert [int((~mask).sum()) for mask in masks] == [4 * n for n in (0, 9, 18, 27, 32)]
    for more, fewer in pairwise(masks):
        assert not (fewer & ~more).any()
    for mask in masks:
        assert mask[:, 24:].all()


@pytest.mark.parametrize("steps", [4, 7, 16])
def test_columns_forgotten_on_the_way_change_nothing(
    make_problem: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    weight, gram = make_problem(4, 5, 50, 300)
    whole = block_path(Target.of(weight, gram))
    monkeypatch.setattr(obs, "_STEPS", steps)
    often = block_path(Target.of(weight, gram))
    assert torch.equal(often.order, whole.order)
    assert torch.allclose(often.cost, whole.cost, rtol=1e-3, atol=1e-5)


def test_groups_are_solved_as_if_they_were_layers_of_their_own(
    make_problem: Callable[..., Any],
) -> None:
    first, gram_a = make_problem(5, 4, 9, 60)
    second, gram_b = make_problem(6, 4, 9, 60)
    path = block_path(Target.of(torch.cat([first, second]), torch.stack([gram_a, gram_b])))
    assert torch.equal(path.order[4:], block_path(Target.of(second, gram_b)).order)


def test_singular_grams_stay_finite_and_dead_blocks_go_first(
    make_problem: Callable[..., Any],
) -> None:
    weight, gram = make_problem(8, 4, 30, 5)
    gram[4:8], gram[:, 4:8] = 0.0, 0.0
    weight[:, 4:8] = 100.0
    pruned, mask = exact_obs(Target.of(weight, gram), 0.2, "block", Paths())
    assert torch.isfinite(pruned).all()
    assert not mask[:, 4:8].any()
    plain = magnitude(weight, 0.2, "block")[0]
    assert row_errors(pruned - weight, gram).sum() < row_errors(plain - weight, gram).sum()
