"""Scales of groups: brute force over scales, zero gradients, orderings, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from paredown.compressors.layers.methods import Compressed, Problem, compress
from paredown.compressors.matrix.algebra import SolverError, row_errors
from paredown.compressors.rounding.compensated import gptq
from paredown.compressors.rounding.descent import descend
from paredown.compressors.rounding.groupwise import (
    GROUPED,
    descend_groups,
    gptq_groups,
    loss_aware_groups,
    refit_scales,
    round_groups,
)
from paredown.compressors.rounding.quantize import Codes, by_column, round_to_nearest, top_code
from paredown.compressors.rounding.target import Target
from paredown.spaces.candidates.candidate import GROUPED_METHODS, LayerChoice
from paredown.spaces.candidates.zeros import Zeros


def heavy_tailed(rows: int, columns: int, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return torch.distributions.StudentT(3.0).sample((rows, columns)) * 0.1


def correlated(columns: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(columns, columns, generator=generator, dtype=torch.float64)
    return mix @ mix.t() / columns + 0.05 * torch.eye(columns, dtype=torch.float64)


def errors(found: Codes, weight: Tensor, gram: Tensor) -> Tensor:
    return row_errors(found.dense().double() - weight, gram)


@pytest.mark.parametrize("bits", [1, 4])
@pytest.mark.parametrize("columns", [64, 75])
def test_each_group_is_rounded_as_if_it_were_alone(columns: int, bits: int) -> None:
    weight = heavy_tailed(5, columns)
    found = round_groups(weight, bits, 32)
    for group, part in enumerate(weight.split(32, dim=1)):
        alone = round_to_nearest(part, bits)
        own = slice(32 * group, 32 * group + part.shape[1])
        assert torch.equal(found.codes[:, own], alone.codes)
        assert torch.equal(found.scale[:, group], alone.scale)


@pytest.mark.parametrize("bits", [2, 3])
def test_no_scale_of_a_fine_grid_is_better_for_its_group(bits: int) -> None:
    weight = heavy_tailed(4, 40).double()
    diagonal = torch.rand(40, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    found = round_groups(weight, bits, 32, diagonal)
    error = (found.dense().double() - weight).square() * diagonal
    top = top_code(bits)
    for part, own, weigh in zip(
        weight.split(32, 1), error.split(32, 1), diagonal.split(32), strict=True
    ):
        least = torch.full((4,), torch.inf, dtype=torch.float64)
        full = part.abs().amax(dim=1, keepdim=True) / top
        for share in torch.linspace(0.01, 1.2, 3000, dtype=torch.float64):
            codes = torch.round(part / (full * share)).clamp(-top, top)
            least = torch.minimum(
                least, ((codes * full * share - part).square() * weigh).sum(dim=1)
            )
        assert (own.sum(dim=1) <= least * (1 + 1e-6)).all()


@pytest.mark.parametrize("columns", [96, 100])
def test_refitted_scales_leave_no_gradient(columns: int) -> None:
    weight, gram = heavy_tailed(6, columns).double(), correlated(columns)
    start = round_groups(weight, 3, 32)
    found = refit_scales(start, weight, gram)
    assert (found.scale > 0).all()
    residual = (found.dense().double() - weight) @ gram
    slope = torch.stack([p.sum(1) for p in (residual * found.codes).split(32, dim=1)], dim=1)
    before = (start.dense().double() - weight) @ gram
    size = torch.stack([p.abs().sum(1) for p in (before * start.codes).split(32, dim=1)], dim=1)
    assert (slope.abs() <= 1e-5 * size).all()
    assert (errors(found, weight, gram) <= errors(start, weight, gram)).all()


def test_a_scale_below_zero_turns_the_signs_of_its_codes() -> None:
    weight, gram = heavy_tailed(3, 64).double(), correlated(64)
    start = round_groups(weight, 4, 32)
    turned = Codes(codes=start.codes.clone(), scale=start.scale)
    turned.codes[:, 32:] *= -1
    found, again = refit_scales(turned, weight, gram), refit_scales(start, weight, gram)
    assert torch.equal(found.codes, again.codes)
    assert torch.allclose(found.scale, again.scale)


def test_groups_of_zeros_and_dead_inputs_keep_a_scale() -> None:
    weight, gram = heavy_tailed(4, 96), correlated(96)
    weight[:, :32] = 0
    gram[40:50], gram[:, 40:50] = 0, 0
    for find in GROUPED.values():
        found = find(Target.of(weight, gram), 3, None, 32)
        assert torch.isfinite(found.scale).all()
        assert (found.scale > 0).all()


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_smaller_groups_round_nearer_in_the_sum(bits: int) -> None:
    weight = heavy_tailed(64, 300)
    lost = [
        float((found.dense() - weight).square().sum())
        for found in (
            round_groups(weight, bits, 32),
            round_groups(weight, bits, 64),
            round_groups(weight, bits, 128),
            round_to_nearest(weight, bits),
        )
    ]
    assert lost == sorted(lost)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("columns", "size"), [(96, 32), (150, 64), (140, 128)])
def test_gptq_and_descent_never_lose_to_what_they_start_from(
    bits: int, columns: int, size: int
) -> None:
    weight, gram = heavy_tailed(24, columns), correlated(columns)
    rounded = errors(loss_aware_groups(Target.of(weight, gram), bits, None, size), weight, gram)
    swept = errors(gptq_groups(Target.of(weight, gram), bits, None, size), weight, gram)
    settled = errors(descend_groups(Target.of(weight, gram), bits, None, size), weight, gram)
    one_scale = errors(gptq(Target.of(weight, gram), bits), weight, gram)
    assert (swept <= one_scale * (1 + 1e-9)).all()
    one_scale = errors(descend(Target.of(weight, gram), bits), weight, gram)
    assert (settled <= one_scale * (1 + 1e-9)).all()
    assert (swept <= rounded * (1 + 1e-9)).all()
    assert (settled <= swept * (1 + 1e-9)).all()
    assert float(swept.sum()) < 0.95 * float(rounded.sum())


@pytest.mark.parametrize("method", GROUPED_METHODS)
@pytest.mark.parametrize(
    ("sparsity", "pattern"), [(0.0, "dense"), (0.5, "element"), (0.5, "2:4"), (0.5, "block")]
)
@pytest.mark.parametrize("bits", [2, 4])
def test_every_method_stays_inside_the_choice(
    method: str, sparsity: float, pattern: str, bits: int
) -> None:
    weight, gram = heavy_tailed(16, 90), correlated(90)
    choice = LayerChoice(
        weight_bits=bits, zeros=Zeros(sparsity, pattern), method=method, group_size=32
    )
    problem = Problem(target=Target.of(weight, gram))
    found = compress(problem, choice)
    assert found.scale is not None
    assert found.scale.shape == (16, 3)
    assert (found.scale > 0).all()
    assert int(found.values.abs().max()) <= top_code(bits)
    if found.mask is not None:
        assert not found.values[~found.mask].any()
    assert (found.mask is None) == (sparsity == 0)
    plain = compress(problem, replace(choice, method="rtn"))
    assert problem.error(found) <= problem.error(plain)


def test_a_group_as_long_as_the_row_is_one_scale() -> None:
    problem = Problem(target=Target.of(heavy_tailed(4, 64), correlated(64)))
    grouped = compress(problem, LayerChoice(weight_bits=4, method="gptq", group_size=64))
    plain = compress(problem, LayerChoice(weight_bits=4, method="gptq"))
    assert grouped.scale is not None
    assert grouped.scale.shape == (4,)
    assert torch.equal(grouped.dense(), plain.dense())


def test_rows_are_scaled_with_all_their_groups() -> None:
    codes = round_groups(heavy_tailed(4, 70), 4, 32)
    found = Compressed(values=codes.codes, scale=codes.scale, mask=None)
    factor = torch.tensor([0.5, 1.0, 2.0, 4.0])
    assert torch.equal(found.times(factor).dense(), found.dense() * factor.unsqueeze(1))


def test_scales_by_column_repeat_to_the_end_of_a_short_group() -> None:
    scale = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert by_column(scale, 40).tolist() == [[1.0] * 32 + [2.0] * 8, [3.0] * 32 + [4.0] * 8]
    assert by_column(scale[:, 0], 40).tolist() == [[1.0], [3.0]]


@pytest.mark.parametrize("method", ["adaround", "obq", "joint"])
def test_a_method_of_one_scale_a_row_is_refused(method: str) -> None:
    problem = Problem(target=Target.of(heavy_tailed(4, 64), correlated(64)))
    with pytest.raises(SolverError, match=f"group_size 32, got {method}"):
        compress(problem, LayerChoice(weight_bits=4, method=method, group_size=32))


def test_a_gram_of_several_groups_of_channels_is_refused() -> None:
    gram = torch.stack([correlated(64)] * 2)
    with pytest.raises(SolverError, match="one Gram matrix"):
        gptq_groups(Target.of(heavy_tailed(4, 64), gram), 4, None, 32)
