from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paredown.compressors.matrix.algebra import row_errors
from paredown.compressors.matrix.gram import Gram
from paredown.compressors.rounding.compensated import gptq, sweep
from paredown.compressors.rounding.quantize import round_to_nearest
from paredown.compressors.rounding.target import Target


@settings(max_examples=25, deadline=None)
@given(
    bits=st.sampled_from([2, 3, 4, 6, 8]),
    rows=st.integers(1, 6),
    columns=st.integers(1, 90),
    samples=st.integers(1, 120),
    seed=st.integers(0, 10**6),
)
def test_every_row_is_at_least_as_good_as_rounding_even_with_a_singular_gram(
    make_problem: Callable[..., Any], bits: int, rows: int, columns: int, samples: int, seed: int
) -> None:
    weight, gram = make_problem(seed, rows, columns, samples)
    found = gptq(Target.of(weight, gram), bits)
    nearest = round_to_nearest(weight, bits, gram.diagonal())
    error = row_errors(found.dense() - weight, gram)
    # Scales are stored in float32, hence the slack.
    limit = row_errors(nearest.dense() - weight, gram) * (1 + 1e-5) + 1e-9
    assert int(found.codes.abs().max()) <= 2 ** (bits - 1) - 1
    assert torch.isfinite(found.scale).all()
    assert (found.scale > 0).all()
    assert (error <= limit).all()


@pytest.mark.parametrize(("bits", "share"), [(4, 0.8), (3, 0.8), (2, 0.9)])
def test_correlated_inputs_let_compensation_win_clearly(
    make_problem: Callable[..., Any], bits: int, share: float
) -> None:
    weight, gram = make_problem(0, 32, 64, 512)
    nearest = round_to_nearest(weight, bits, gram.diagonal())
    found = row_errors(gptq(Target.of(weight, gram), bits).dense() - weight, gram).sum()
    assert found < share * row_errors(nearest.dense() - weight, gram).sum()


def test_pruned_weights_stay_zero_and_are_compensated(make_problem: Callable[..., Any]) -> None:
    weight, gram = make_problem(1, 8, 80, 400)
    mask = weight.abs() > weight.abs().median()
    found = gptq(Target.of(weight, gram), 4, mask)
    assert not found.codes[~mask].any()
    nearest = round_to_nearest(weight * mask, 4, gram.diagonal())
    found_error = row_errors(found.dense() - weight, gram).sum()
    assert found_error < 0.8 * row_errors(nearest.dense() - weight, gram).sum()


def test_dead_inputs_and_zero_rows_do_no_harm(make_problem: Callable[..., Any]) -> None:
    weight, gram = make_problem(2, 4, 10, 100)
    gram[3], gram[:, 3] = 0.0, 0.0
    weight[1] = 0.0
    found = gptq(Target.of(weight, gram), 4)
    assert torch.isfinite(found.dense()).all()
    assert not found.codes[1].any()
    silent = gptq(Target.of(weight, torch.zeros(10, 10).double()), 4)
    assert torch.equal(silent.codes, round_to_nearest(weight, 4).codes)


def test_groups_are_solved_as_if_they_were_layers_of_their_own(
    make_problem: Callable[..., Any],
) -> None:
    first, gram_a = make_problem(3, 4, 9, 60)
    second, gram_b = make_problem(4, 4, 9, 60)
    together = gptq(Target.of(torch.cat([first, second]), torch.stack([gram_a, gram_b])), 3)
    alone = [gptq(Target.of(first, gram_a), 3), gptq(Target.of(second, gram_b), 3)]
    assert torch.equal(together.codes, torch.cat([a.codes for a in alone]))
    assert torch.allclose(together.scale, torch.cat([a.scale for a in alone]))


@pytest.mark.parametrize("is_masked", [False, True])
def test_the_blocked_sweep_is_that_of_the_definition_column_by_column(
    make_problem: Callable[..., Any], is_masked: bool
) -> None:
    weight, gram = make_problem(7, 5, 150, 400)
    kept = torch.rand(5, 150, generator=torch.Generator().manual_seed(0)) < 0.5
    allowed = kept if is_masked else torch.ones_like(kept)
    scale = weight.double().abs().amax(dim=1) / 7
    order = gram.diagonal().argsort(descending=True, stable=True)
    root = Gram(gram[order][:, order]).inverse_root[0]
    left, expected = weight.double()[:, order], torch.zeros(5, 150).double()
    for i in range(150):
        code = torch.round(left[:, i] / scale).clamp(-7, 7) * allowed[:, order[i]]
        error = (left[:, i] - code * scale) / root[i, i]
        left[:, i + 1 :] -= torch.outer(error, root[i, i + 1 :])
        expected[:, order[i]] = code
    mask = kept.unsqueeze(0) if is_masked else None
    found = sweep(weight.double().unsqueeze(0), Gram(gram), scale.unsqueeze(0), 4, mask)
    assert torch.equal(found[0], expected)


def test_one_hot_inputs_need_no_compensation(make_problem: Callable[..., Any]) -> None:
    weight, _ = make_problem(5, 4, 9, 60)
    frequencies = torch.linspace(0.0, 1.0, 9, dtype=torch.float64)
    nearest = round_to_nearest(weight, 4, frequencies)
    assert torch.equal(gptq(Target.of(weight, frequencies), 4).codes, nearest.codes)
