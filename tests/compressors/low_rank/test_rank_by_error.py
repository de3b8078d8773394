"""Ranks found by error against all there are: every rank, every pair of ranks, tried out."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from paredown.compressors.low_rank import rank_by_error
from paredown.compressors.low_rank.factorizing import (
    compose,
    factorize,
    gram_at_positions,
    reading_energy,
    refit,
    spread,
    whitened_svd,
)
from paredown.compressors.low_rank.rank_by_error import thinnest_ranks
from paredown.compressors.matrix.algebra import row_errors
from paredown.spaces.candidates.factors import chain_at, full_ranks, weight_count
from paredown.spaces.candidates.ranks import Decomposition

ERRORS = (0.02, 0.05, 0.1, 0.2, 0.4)
SHAPE = (8, 6, 3, 3)
Problem = tuple[Tensor, Tensor]


@pytest.fixture(params=range(3))
def smooth(request: pytest.FixtureRequest) -> Problem:
    """A convolution (8, 6, 3, 3) whose spectra fall, and the Gram of correlated patches."""
    generator = torch.Generator().manual_seed(request.param)
    out, inputs, height, width = SHAPE
    sizes = [0.6 ** torch.arange(n).double() for n in (out, inputs)]
    weight = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    weight = weight * sizes[0][:, None, None, None] * sizes[1][None, :, None, None]
    mixed = torch.linalg.qr(torch.randn(out, out, generator=generator, dtype=torch.float64)).Q
    weight = torch.einsum("ab,bcde->acde", mixed, weight)
    images = torch.randn(300, inputs, height, width, generator=generator, dtype=torch.float64)
    images = images + images.mean(dim=(2, 3), keepdim=True) * 3
    patches = images.flatten(1)
    return weight.flatten(1).float(), patches.t() @ patches / len(patches)


def lost(problem: Problem, form: Decomposition, shape: tuple[int, ...], *ranks: int) -> float:
    matrix, gram = problem
    change = compose(factorize(matrix, gram, chain_at(form, shape, ranks))) - matrix
    return float(row_errors(change, gram).sum() / row_errors(matrix, gram).sum())


@pytest.mark.parametrize("shape", [(12, 30), (30, 12), (10, 4, 3, 3)])
@pytest.mark.parametrize("step", [1, 3])
def test_a_channel_rank_is_the_least_of_all_that_keep_the_error(
    make_problem: Callable[..., Any], shape: tuple[int, ...], step: int
) -> None:
    matrix, gram = make_problem(0, shape[0], torch.Size(shape[1:]).numel(), 40)
    found = thinnest_ranks(matrix, gram, shape, "channel", ERRORS, step)
    whole = torch.Size(shape).numel()
    seen = set()
    for error in ERRORS:
        keeping = [
            rank
            for rank in range(step, full_ranks("channel", shape)[0], step)
            if weight_count(chain_at("channel", shape, (rank,))) < whole
            and lost((matrix, gram), "channel", shape, rank) <= error
        ]
        each = found[error]
        assert (each.ranks if each else None) == ((keeping[0],) if keeping else None)
        if each:
            assert each.lost == pytest.approx(lost((matrix, gram), "channel", shape, *each.ranks))
        seen.add(each is None)
    assert seen == {True, False}


def test_a_spatial_rank_keeps_the_error_and_one_less_does_not(smooth: Problem) -> None:
    found = thinnest_ranks(*smooth, SHAPE, "spatial", ERRORS)
    ranks = []
    for error, each in found.items():
        if each is None:
            continue
        (rank,) = each.ranks
        assert each.lost == lost(smooth, "spatial", SHAPE, rank) <= error
        assert rank == 1 or lost(smooth, "spatial", SHAPE, rank - 1) > error
        ranks.append(rank)
    assert ranks == sorted(ranks, reverse=True)
    assert len(set(ranks)) > 1


def test_tucker_finds_nearly_the_thinnest_of_all_pairs(smooth: Problem) -> None:
    """Fourteen of fifteen are the thinnest of all 40 pairs; the other holds 3.6 % more weights."""
    fulls = full_ranks("tucker", SHAPE)
    every = {
        pair: (weight_count(chain_at("tucker", SHAPE, pair)), lost(smooth, "tucker", SHAPE, *pair))
        for pair in itertools.product(range(1, fulls[0]), range(1, fulls[1] + 1))
    }
    whole = torch.Size(SHAPE).numel()
    over = []
    pairs = thinnest_ranks(*smooth, SHAPE, "tucker", ERRORS)
    for error, each in pairs.items():
        best = min((w for w, e in every.values() if w < whole and e <= error), default=None)
        assert (each is None) == (best is None)
        if each is not None and best is not None:
            weights, error_there = every[each.ranks]
            assert each.lost == pytest.approx(error_there, rel=1e-9)
            assert each.lost <= error
            over.append(weights / best - 1)
    assert len(over) >= 4
    assert sum(over) / len(over) < 0.03
    assert max(over) < 0.05
    assert any(each and each.ranks[0] != each.ranks[1] for each in pairs.values())


def test_few_factorisations_answer_for_many_errors(
    smooth: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def counted(matrix: Tensor, gram: Tensor, chain: Any) -> Any:
        tried.append(chain)
        return factorize(matrix, gram, chain)

    monkeypatch.setattr(rank_by_error, "factorize", counted)
    errors = [0.01 * step for step in range(1, 40)]
    thinnest_ranks(*smooth, SHAPE, "channel", errors)
    assert not tried
    thinnest_ranks(*smooth, SHAPE, "tucker", ERRORS)
    assert len(tried) == len(set(tried)) <= 4 * len(ERRORS)


def test_ranks_are_multiples_of_the_step_and_the_error_stays_under(smooth: Problem) -> None:
    for form in ("spatial", "tucker"):
        free = thinnest_ranks(*smooth, SHAPE, form, ERRORS)
        held = thinnest_ranks(*smooth, SHAPE, form, ERRORS, step=2)
        assert any(each for each in held.values())
        for error, each in held.items():
            if each is not None:
                assert all(rank % 2 == 0 for rank in each.ranks)
                assert each.lost <= error
                least = free[error]
                assert least is not None
                sizes = [weight_count(chain_at(form, SHAPE, f.ranks)) for f in (least, each)]
                assert sizes == sorted(sizes)


def test_outputs_without_energy_lose_nothing_at_the_lowest_rank() -> None:
    for form in ("channel", "spatial", "tucker"):
        (found,) = thinnest_ranks(
            torch.zeros(8, 54), torch.eye(54).double(), SHAPE, form, (0.1,)
        ).values()
        assert found is not None
        assert found.lost == 0.0
        assert set(found.ranks) == {1}


@pytest.mark.parametrize("width", [SHAPE[1], SHAPE[1] * SHAPE[2]])
def test_reading_energy_is_that_of_a_refit_at_every_rank(smooth: Problem, width: int) -> None:
    matrix, gram = smooth
    found = reading_energy(matrix, gram, width)
    positions = matrix.shape[1] // width
    unfolded = matrix.double().reshape(len(matrix), width, positions).transpose(1, 2)
    seen = gram_at_positions(gram, width)
    assert found[0] == pytest.approx(float(row_errors(matrix, gram).sum()))
    for rank in range(1, len(found)):
        first, _ = whitened_svd(unfolded.reshape(-1, width), seen, rank)
        through = spread(first, matrix.shape[1])
        change = refit(matrix.double(), gram, through) @ through - matrix
        left = float(row_errors(change, gram).sum())
        assert float(found[rank]) == pytest.approx(left, rel=1e-4, abs=1e-6 * float(found[0]))
