from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paredown.compressors.matrix import SolverError, row_errors
from paredown.compressors.sparsify import kept_count, magnitude, sparse_gpt


@settings(max_examples=25, deadline=None)
@given(
    sparsity=st.sampled_from([0.0, 0.1, 0.37, 0.5, 0.9, 0.99]),
    pattern=st.sampled_from(["element", "2:4"]),
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
    found, mask = sparse_gpt(weight, gram, sparsity, pattern)
    for result, kept in ((plain, plain_mask), (found, mask)):
        assert int(kept.sum()) == kept_count((rows, columns), sparsity, pattern)
        assert not result[~kept].any()
        if pattern == "2:4":
            fours = kept[:, : columns // 4 * 4].view(rows, -1, 4)
            assert (fours.sum(dim=2) == 2).all()
            assert kept[:, columns // 4 * 4 :].all()
    error = row_errors(found - weight, gram).sum()
    assert error <= row_errors(plain - weight, gram).sum()


@pytest.mark.parametrize("pattern", ["element", "2:4"])
def test_correlated_inputs_let_compensation_win_clearly(
    make_problem: Callable[..., Any], pattern: Any
) -> None:
    weight, gram = make_problem(0, 32, 128, 1024)
    found = row_errors(sparse_gpt(weight, gram, 0.6, pattern)[0] - weight, gram).sum()
    plain = row_errors(magnitude(weight, 0.6, pattern)[0] - weight, gram).sum()
    assert found < 0.8 * plain


def test_equal_magnitudes_go_by_position() -> None:
    _, mask = magnitude(torch.ones(2, 3), 0.5)
    assert mask.tolist() == [[False, False, False], [True, True, True]]
    _, fours = magnitude(torch.ones(1, 6), 0.5, "2:4")
    assert fours.tolist() == [[False, False, True, True, True, True]]


def test_one_column_pruned_matches_the_closed_form_of_optimal_brain_surgeon() -> None:
    weight = torch.tensor([[0.1, 1.0]])
    gram = torch.tensor([[1.0, 0.8], [0.8, 1.0]]).double()
    found, mask = sparse_gpt(weight, gram, 0.5)
    assert mask.tolist() == [[False, True]]
    # Least squares on the column left, damped by 1 %: 1.0 + 0.1 * 0.8 / 1.01.
    assert float(found[0, 1]) == pytest.approx(1.0 + 0.08 / 1.01, rel=1e-5)


def test_dead_inputs_are_pruned_first(make_problem: Callable[..., Any]) -> None:
    weight, gram = make_problem(2, 4, 10, 100)
    weight[:, 3] = 10.0
    gram[3], gram[:, 3] = 0.0, 0.0
    found, mask = sparse_gpt(weight, gram, 0.25)
    assert torch.isfinite(found).all()
    assert not mask[:, 3].any()


def test_one_hot_inputs_prune_what_is_seen_least() -> None:
    found, mask = sparse_gpt(torch.ones(2, 4), torch.tensor([0.4, 0.1, 0.3, 0.2]).double(), 0.5)
    assert mask.tolist() == [[True, False, True, False]] * 2
    assert torch.equal(found, mask.float())


def test_a_share_of_one_is_refused() -> None:
    with pytest.raises(SolverError, match=r"\[0, 1\)"):
        magnitude(torch.ones(2, 2), 1.0)
