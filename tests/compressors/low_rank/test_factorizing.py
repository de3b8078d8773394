from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from paredown.compressors.low_rank import factorizing as low_rank
from paredown.compressors.low_rank.factorizing import (
    compose,
    discarded_energy,
    factorize,
    gram_at_positions,
    improved_first,
    refit,
    spread,
    statistics_behind,
    whitened_svd,
)
from paredown.compressors.matrix.algebra import SolverError, row_errors
from paredown.compressors.statistics.layer_statistics import LayerStatistics
from paredown.spaces.candidates.factors import Chain, Link, factor_chain
from paredown.spaces.candidates.ranks import Decomposition, Rank
from paredown.spaces.structure.model_map import Layer

Problem = tuple[Tensor, Tensor]

FORMS: tuple[Decomposition, ...] = get_args(Decomposition)
R, INPUTS, KH, KW = 10, 6, 3, 4
LAYER = Layer(
    name="conv", nodes=("conv",), kind="conv2d", weight="conv.weight", bias=None,
    weight_shape=(R, INPUTS, KH, KW), out_axis=0, in_axis=1, groups=1, macs=0,
)  # fmt: skip


@pytest.fixture
def patches(make_problem: Callable[..., Any]) -> Problem:
    """A convolution's matrix, float64, and the Gram of its patches."""
    weight, gram = make_problem(5, R, INPUTS * KH * KW, 300)
    return weight.double(), gram


def full_chain(form: Decomposition) -> Chain:
    """Links of full rank, which `factor_chain` never makes: they would be no smaller."""
    read, written, down = (
        min(INPUTS, R * KH * KW),
        min(R, INPUTS * KH * KW),
        min(INPUTS * KH, R * KW),
    )
    pointwise = Link(shape=(R, written, 1, 1), axes=())
    chains = {
        "channel": (Link(shape=(written, INPUTS, KH, KW), axes=(0, 1)), pointwise),
        "spatial": (
            Link(shape=(down, INPUTS, KH, 1), axes=(0,)),
            Link(shape=(R, down, 1, KW), axes=(1,)),
        ),
        "tucker": (
            Link(shape=(read, INPUTS, 1, 1), axes=()),
            Link(shape=(written, read, KH, KW), axes=(0, 1)),
            pointwise,
        ),
    }
    return chains[form]


def lost(factors: Sequence[Tensor], problem: Problem) -> float:
    weight, gram = problem
    return float(row_errors(compose(factors) - weight, gram).sum())


def statistics_of(inputs: Tensor) -> LayerStatistics:
    none = inputs.new_zeros(2)
    return LayerStatistics(
        gram=inputs.t() @ inputs / len(inputs),
        input_mean=inputs.mean(0),
        output_mean=none,
        output_std=none,
        gradient_gram=None,
        positions=len(inputs),
    )


@pytest.mark.parametrize("shape", [(12, 30), (30, 12)])
def test_the_error_is_the_discarded_energy_and_below_plain_svd(
    make_problem: Callable[..., Any], shape: tuple[int, int]
) -> None:
    weight, gram = make_problem(0, *shape, 200)
    weight = weight.double()
    tails = discarded_energy(weight, gram)
    whole = torch.linalg.svd(weight)
    root = torch.linalg.cholesky(gram)
    singular = torch.linalg.svdvals(weight @ root)
    for rank in range(1, 13):
        first, second = whitened_svd(weight, gram, rank)
        assert first.shape == (rank, shape[1])
        assert second.shape == (shape[0], rank)
        error = float(row_errors(second @ first - weight, gram).sum())
        assert error == pytest.approx(float(singular[rank:].square().sum()), rel=1e-6, abs=1e-7)
        assert error == pytest.approx(float(tails[rank]), rel=1e-6, abs=1e-7)
        plain = whole.U[:, :rank] @ torch.diag(whole.S[:rank]) @ whole.Vh[:rank]
        assert error <= float(row_errors(plain - weight, gram).sum()) + 1e-7


def test_a_singular_gram_and_a_zero_weight_are_no_special_case(
    make_problem: Callable[..., Any],
) -> None:
    weight, gram = make_problem(1, 8, 20, 3)
    first, second = whitened_svd(weight, gram, 3)
    error = row_errors(second @ first - weight, gram).sum()
    assert float(error) <= 1e-9 * float(row_errors(weight, gram).sum())
    first, second = whitened_svd(torch.zeros(8, 20), gram, 2)
    assert not (second @ first).any()


@pytest.mark.parametrize("form", FORMS)
def test_full_ranks_give_the_matrix_back(form: Decomposition, patches: Problem) -> None:
    weight, gram = patches
    factors = factorize(weight, gram, full_chain(form))
    assert torch.allclose(compose(factors), weight, atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_factors_lose_no_more_than_plain_ones_and_less_at_higher_ranks(
    form: Decomposition, patches: Problem
) -> None:
    weight, gram = patches
    identity = torch.eye(len(gram), dtype=gram.dtype)
    before = float("inf")
    for fraction in (0.1, 0.2, 0.3, 0.4):
        chain = factor_chain(LAYER, LAYER.weight_shape, Rank(fraction, form))
        found, plain = (lost(factorize(weight, g, chain), patches) for g in (gram, identity))
        assert len(chain) > 1
        assert found <= plain * (1 + 1e-9)
        assert found < before
        before = found


def test_spatial_factors_are_no_worse_than_those_of_jaderberg(patches: Problem) -> None:
    weight, _ = patches
    rank = 6
    chain = (Link(shape=(rank, INPUTS, KH, 1), axes=(0,)), Link(shape=(R, rank, 1, KW), axes=(1,)))
    # Scheme 2 as published: the SVD of the kernel with (out, horizontal) against (in, vertical).
    unfolded = weight.reshape(R, INPUTS * KH, KW).transpose(1, 2).reshape(R * KW, INPUTS * KH)
    u, s, v = torch.linalg.svd(unfolded, full_matrices=False)
    published = (
        s[:rank, None].sqrt() * v[:rank],
        (u[:, :rank] * s[:rank].sqrt()).reshape(R, KW, rank).transpose(1, 2).reshape(R, -1),
    )
    assert lost(factorize(*patches, chain), patches) < lost(published, patches)


def test_tucker_factors_are_no_worse_than_the_truncated_hosvd(patches: Problem) -> None:
    weight, _ = patches
    read, written = 2, 4
    chain = (
        Link(shape=(read, INPUTS, 1, 1), axes=()),
        Link(shape=(written, read, KH, KW), axes=(0, 1)),
        Link(shape=(R, written, 1, 1), axes=()),
    )
    kernel = weight.reshape(R, INPUTS, KH * KW)
    left = torch.linalg.svd(kernel.flatten(1)).U[:, :written]
    right = torch.linalg.svd(kernel.transpose(0, 1).flatten(1)).U[:, :read]
    core = torch.einsum("oik,ow,ir->wrk", kernel, left, right)
    published = (right.t(), core.flatten(1), left)
    assert lost(factorize(*patches, chain), patches) < lost(published, patches)


@pytest.mark.parametrize("form", ["spatial", "tucker"])
def test_no_small_change_of_a_refitted_factor_loses_less(
    form: Decomposition, patches: Problem
) -> None:
    weight, gram = patches
    first, *others = factorize(
        weight, gram, factor_chain(LAYER, LAYER.weight_shape, Rank(0.3, form))
    )
    # Codes of the first factor: what follows is refitted to what is left of it.
    through = spread((first * 4).round() / 4, weight.shape[1])
    rest = refit(weight, gram, through).requires_grad_()
    delta = rest @ through - weight
    (delta @ gram * delta).sum().backward()
    assert rest.grad is not None
    scale = (2 * weight @ gram @ through.t()).abs().max()
    assert float(rest.grad.abs().max()) < 1e-6 * float(scale)
    # The same by least squares on the inputs themselves.
    root = torch.linalg.cholesky(gram)
    solved = torch.linalg.lstsq((through @ root).t(), (weight @ root).t()).solution.t()
    assert torch.allclose(rest @ through, solved @ through, atol=1e-5)
    assert lost((through, rest.detach()), patches) <= lost((through, compose(others)), patches)


@pytest.mark.parametrize("form", ["spatial", "tucker"])
def test_a_first_factor_nears_the_least_squares_one_and_no_round_loses_more(
    form: Decomposition, patches: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight, gram = patches
    chain = factor_chain(LAYER, LAYER.weight_shape, Rank(0.3, form))
    errors = []
    for rounds in range(4):
        monkeypatch.setattr(low_rank, "_ROUNDS", rounds)
        # Factors of the very same tensors would be remembered.
        errors.append(lost(factorize(weight.clone(), gram, chain), patches))
    assert errors == sorted(errors, reverse=True)
    assert errors[3] < 0.99 * errors[0]

    first, *others = factorize(weight, gram, chain)
    rest, start = compose(others), torch.randn_like(first)
    # Every entry of the first factor moves the whole matrix linearly.
    root = torch.linalg.cholesky(gram)
    units = torch.eye(first.numel(), dtype=first.dtype).reshape(-1, *first.shape)
    moved = torch.stack([(compose((unit, rest)) @ root).flatten() for unit in units], dim=1)
    solved = torch.linalg.lstsq(moved, (weight @ root).flatten()).solution.reshape(first.shape)
    best = lost((solved, rest), patches)
    before = lost((start, rest), patches)
    for steps in (1, 5, 200):
        monkeypatch.setattr(low_rank, "_STEPS", steps)
        found = lost((improved_first(weight, gram, start, rest), rest), patches)
        assert best * (1 - 1e-9) <= found < before
        before = found
    assert found == pytest.approx(best, rel=1e-4)


def test_inputs_that_are_never_seen_get_finite_weights(patches: Problem) -> None:
    weight, gram = patches
    through = torch.zeros(3, weight.shape[1], dtype=weight.dtype)
    through[0] = 1.0
    rest = refit(weight, gram, through)
    assert torch.isfinite(rest).all()
    assert not rest[:, 1:].any()
    assert not refit(weight, torch.zeros_like(gram), through).any()


def test_statistics_behind_a_factor_are_those_of_its_outputs_at_every_position() -> None:
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(40, INPUTS, KH, KW, generator=generator, dtype=torch.float64)
    down = torch.randn(2, INPUTS, KH, 1, generator=generator, dtype=torch.float64)
    inputs = images.flatten(1)
    found = statistics_behind(statistics_of(inputs), spread(down.flatten(1), inputs.shape[1]))
    outputs = F.conv2d(images, down).flatten(1)
    assert torch.allclose(found.gram, outputs.t() @ outputs / 40)
    assert torch.allclose(found.input_mean, outputs.mean(0))


def test_the_gram_of_what_one_output_reads_is_the_mean_over_its_positions() -> None:
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(40, INPUTS, KH, KW, generator=generator, dtype=torch.float64)
    gram = images.flatten(1).t() @ images.flatten(1) / 40
    columns = images.permute(0, 3, 1, 2).reshape(40 * KW, INPUTS * KH)
    assert torch.allclose(
        gram_at_positions(gram, INPUTS * KH), columns.t() @ columns / len(columns)
    )
    assert gram_at_positions(gram, len(gram)) is gram


def test_ranks_outside_their_range_and_grouped_inputs_are_refused() -> None:
    with pytest.raises(SolverError, match="rank must be 1 to 3"):
        whitened_svd(torch.ones(3, 4), torch.eye(4).double(), 4)
    with pytest.raises(SolverError, match="grouped"):
        whitened_svd(torch.ones(4, 4), torch.eye(4).double().expand(2, 4, 4), 1)
