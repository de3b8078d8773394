from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paredown.compressors.matrix.algebra import SolverError, row_errors
from paredown.compressors.pruning.paths import Paths
from paredown.compressors.pruning.sparsify import exact_obs, magnitude, saliency, sparse_gpt
from paredown.compressors.rounding.target import Target
from paredown.spaces.candidates.zeros import BLOCK, kept_count


@settings(max_examples=25, deadline=None)
@given(
    sparsity=st.sampled_from([0.0, 0.1, 0.37, 0.5, 0.9, 0.99]),
    pattern=st.sampled_from(["element", "2:4", "block"]),
    rows=st.integers(1, 6),
    columns=st.integers(1, 90),
    samples=st.integers(1, 120),
    seed=st.integers(0, 10**6),
)
def test_both_methods_keep_the_exact_count_and_sparse_gpt_is_no_worse(
    make_problem: Callable[..., Any],
    sparsity: float,
    pattern: Any,
    rows: int,
    columns: int,
    samples: int,
    seed: int,
) -> None:
    weight, gram = make_problem(seed, rows, columns, samples)
    plain, plain_mask = magnitude(weight, sparsity, pattern)
    found, mask = sparse_gpt(Target.of(weight, gram), sparsity, pattern)
    for result, kept in ((plain, plain_mask), (found, mask)):
        assert int(kept.sum()) == kept_count(rows, columns, sparsity, pattern)
        assert not result[~kept].any()
        if pattern == "2:4":
            fours = kept[:, : columns // 4 * 4].view(rows, -1, 4)
            assert (fours.sum(dim=2) == 2).all()
            assert kept[:, columns // 4 * 4 :].all()
        elif pattern == "block":
            whole = columns // BLOCK * BLOCK
            blocks = kept[:, :whole].view(rows, -1, BLOCK)
            assert torch.equal(blocks.any(dim=2), blocks.all(dim=2))
            assert kept[:, whole:].all()
    error = row_errors(found - weight, gram).sum()
    assert error <= row_errors(plain - weight, gram).sum()


@pytest.mark.parametrize("pattern", ["element", "2:4", "block"])
def test_correlated_inputs_let_compensation_win_clearly(
    make_problem: Callable[..., Any], pattern: Any
) -> None:
    weight, gram = make_problem(0, 32, 128, 1024)
    found = row_errors(sparse_gpt(Target.of(weight, gram), 0.6, pattern)[0] - weight, gram).sum()
    plain = row_errors(magnitude(weight, 0.6, pattern)[0] - weight, gram).sum()
    assert found < 0.8 * plain


@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.8])
def test_blocks_by_exact_obs_beat_sparse_gpt_and_that_beats_magnitude(
    make_problem: Callable[..., Any], sparsity: float
) -> None:
    weight, gram = make_problem(1, 16, 64, 500)
    errors = [
        float(row_errors(pruned - weight, gram).sum())
        for pruned, _ in (
            exact_obs(Target.of(weight, gram), sparsity, "block", Paths()),
            sparse_gpt(Target.of(weight, gram), sparsity, "block"),
            magnitude(weight, sparsity, "block"),
        )
    ]
    assert errors == sorted(errors)


def test_the_first_block_that_sparse_gpt_removes_is_the_cheapest_of_all(
    make_problem: Callable[..., Any],
) -> None:
    # Of one row's two blocks, the joint cost decides, not the sum of single ones.
    for seed in range(20):
        weight, gram = make_problem(seed, 1, 8, 60)
        damped = gram + 0.01 * gram.diagonal().mean() * torch.eye(8).double()
        errors = []
        for gone in (slice(0, 4), slice(4, 8)):
            kept = [i for i in range(8) if i not in range(8)[gone]]
            cross = damped[kept][:, gone] @ weight[0, gone].double()
            moved = torch.linalg.solve(damped[kept][:, kept], cross)
            own = weight[0, gone].double()
            errors.append(float(own @ damped[gone, gone] @ own - cross @ moved))
        _, mask = exact_obs(Target.of(weight, gram), 0.5, "block", Paths())
        assert mask[0, ::4].tolist() == [errors[0] > errors[1], errors[1] >= errors[0]]


def test_equal_magnitudes_go_by_position() -> None:
    _, mask = magnitude(torch.ones(2, 3), 0.5)
    assert mask.tolist() == [[False, False, False], [True, True, True]]
    _, fours = magnitude(torch.ones(1, 6), 0.5, "2:4")
    assert fours.tolist() == [[False, False, True, True, True, True]]
    _, blocks = magnitude(torch.ones(2, 5), 0.5, "block")
    assert blocks.tolist() == [[False, False, False, False, True], [True] * 5]


def test_one_column_pruned_matches_the_closed_form_of_optimal_brain_surgeon() -> None:
    weight = torch.tensor([[0.1, 1.0]])
    gram = torch.tensor([[1.0, 0.8], [0.8, 1.0]]).double()
    found, mask = sparse_gpt(Target.of(weight, gram), 0.5)
    assert mask.tolist() == [[False, True]]
    # Least squares on the column left, damped by 1 %: 1.0 + 0.1 * 0.8 / 1.01.
    assert float(found[0, 1]) == pytest.approx(1.0 + 0.08 / 1.01, rel=1e-5)


def test_dead_inputs_are_pruned_first(make_problem: Callable[..., Any]) -> None:
    weight, gram = make_problem(2, 4, 10, 100)
    weight[:, 3] = 10.0
    gram[3], gram[:, 3] = 0.0, 0.0
    found, mask = sparse_gpt(Target.of(weight, gram), 0.25)
    assert torch.isfinite(found).all()
    assert not mask[:, 3].any()


def test_one_hot_inputs_prune_what_is_seen_least() -> None:
    frequencies = torch.tensor([0.4, 0.1, 0.3, 0.2]).double()
    found, mask = sparse_gpt(Target.of(torch.ones(2, 4), frequencies), 0.5)
    assert mask.tolist() == [[True, False, True, False]] * 2
    assert torch.equal(found, mask.float())


def test_rows_shorter_than_a_block_lose_nothing() -> None:
    weight, gram = torch.ones(5, 3), torch.eye(3).double()
    for pruned, mask in (
        magnitude(weight, 0.9, "block"),
        saliency(Target.of(weight, gram), 0.9, "block"),
        sparse_gpt(Target.of(weight, gram), 0.9, "block"),
        exact_obs(Target.of(weight, gram), 0.9, "block", Paths()),
    ):
        assert mask.all()
        assert torch.equal(pruned, weight)


def test_a_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"element, block or 'N:M'.*got '4:2'"):
        magnitude(torch.ones(2, 8), 0.5, "4:2")
    with pytest.raises(SolverError, match=r"power of two up to 64 for M, got '1:3'"):
        magnitude(torch.ones(2, 8), 0.5, "1:3")


def test_a_share_of_one_is_refused() -> None:
    with pytest.raises(SolverError, match=r"\[0, 1\)"):
        magnitude(torch.ones(2, 2), 1.0)


@pytest.mark.parametrize("columns", [65, 66, 67, 131])
def test_columns_behind_the_last_run_that_fill_no_block_stay(columns: int) -> None:
    torch.manual_seed(columns)
    weight = torch.randn(6, columns)
    gram = torch.eye(columns, dtype=torch.float64)
    _, mask = sparse_gpt(Target.of(weight, gram), 0.5, "block")
    assert int(mask.sum()) == kept_count(6, columns, 0.5, "block")
    assert mask[:, columns // 4 * 4 :].all()
