from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from paredown.compressors.matrix.algebra import SolverError
from paredown.compressors.rounding import quantize
from paredown.compressors.rounding.quantize import Codes, round_to_nearest


def _error(found: Codes, weight: Tensor, diagonal: Tensor) -> Tensor:
    return (diagonal * (found.dense().double() - weight.double()).square()).sum(dim=1)


def _brute_force(weight: np.ndarray, diagonal: np.ndarray, bits: int) -> float:
    """Least error over every vector of codes, each with its own best scale."""
    best = float((diagonal * weight**2).sum())
    top = 2 ** (bits - 1) - 1
    values = (-1, 1) if bits == 1 else range(-top, top + 1)
    for codes in itertools.product(values, repeat=len(weight)):
        b = np.array(codes)
        size, overlap = (diagonal * b * b).sum(), (diagonal * b * weight).sum()
        if size > 0 and overlap > 0:
            best = min(best, float((diagonal * (b * overlap / size - weight) ** 2).sum()))
    return best


@pytest.mark.parametrize(("bits", "count"), [(1, 8), (2, 6), (3, 4), (4, 3)])
def test_narrow_codes_are_as_good_as_trying_every_code(bits: int, count: int) -> None:
    generator = torch.Generator().manual_seed(bits)
    weight = torch.randn(6, count, generator=generator)
    diagonal = torch.rand(6, count, generator=generator) + 0.05
    errors = _error(round_to_nearest(weight, bits, diagonal), weight, diagonal)
    for row in range(6):
        best = _brute_force(weight[row].double().numpy(), diagonal[row].double().numpy(), bits)
        assert float(errors[row]) == pytest.approx(best, rel=1e-5, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(
    bits=st.sampled_from([2, 3, 4, 5, 6, 8]),
    rows=st.integers(1, 5),
    columns=st.one_of(st.integers(1, 40), st.integers(300, 400)),
    seed=st.integers(0, 10**6),
)
def test_codes_are_in_range_and_no_worse_than_a_fine_scale_search(
    bits: int, rows: int, columns: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator)
    diagonal = torch.rand(columns, generator=generator) + 0.01
    found = round_to_nearest(weight, bits, diagonal)
    top = 2 ** (bits - 1) - 1
    assert found.codes.dtype == torch.int8
    assert found.scale.dtype == torch.float32
    assert int(found.codes.abs().max()) <= top
    full = weight.abs().amax(1, keepdim=True) / top
    searched = torch.full((rows,), torch.inf, dtype=torch.float64)
    for share in torch.linspace(0.35, 1.0, 27):
        scale = full * share
        rounded = torch.round(weight / scale).clamp(-top, top) * scale
        searched = torch.minimum(
            searched, (diagonal * (rounded - weight).double().square()).sum(1)
        )
    # Wide codes of long rows are found on a grid of their own: 2 % is what the grid may leave.
    slack = 1.0 + (1e-6 if bits <= 4 or columns <= 40 else 0.02)
    assert (_error(found, weight, diagonal) <= searched * slack + 1e-12).all()


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_an_all_zero_row_gets_scale_one_and_zero_codes(bits: int) -> None:
    weight = torch.stack([torch.zeros(5), torch.ones(5)])
    found = round_to_nearest(weight, bits)
    assert float(found.scale[0]) == 1.0
    assert not found.codes[0].any()
    assert torch.allclose(found.dense()[1], torch.ones(5))


def test_an_all_zero_row_of_one_bit_vanishes_beside_any_weight() -> None:
    weight = torch.stack([torch.zeros(5), torch.tensor([1.0, -1.0, 0.0, 3.0, -3.0])])
    found = round_to_nearest(weight, 1)
    assert torch.equal(found.codes.abs(), torch.ones(2, 5, dtype=torch.int8))
    assert 0 < float(found.dense()[0].abs().max()) < 1e-18
    # The scale of least squares is the mean of |w|, zero among them.
    assert torch.allclose(found.dense()[1], 1.6 * torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0]))


@pytest.mark.parametrize("bits", [1, 2, 3, 6])
def test_a_single_weight_is_represented_exactly(bits: int) -> None:
    weight = torch.tensor([[0.37], [-2.5], [0.0]])
    assert torch.allclose(round_to_nearest(weight, bits).dense(), weight, rtol=1e-6)


def test_weights_that_no_input_reaches_do_not_move_the_scale() -> None:
    weight = torch.tensor([[1.0, -1.0, 100.0]])
    found = round_to_nearest(weight, 2, torch.tensor([1.0, 1.0, 0.0]))
    assert torch.allclose(found.dense()[0, :2], weight[0, :2])


def test_a_layer_that_no_input_reaches_is_still_rounded_sensibly() -> None:
    weight = torch.tensor([[1.0, -1.0]])
    assert torch.allclose(round_to_nearest(weight, 4, torch.zeros(2)).dense(), weight)


@pytest.mark.parametrize("bits", [0, 9, 32])
def test_other_widths_are_refused(bits: int) -> None:
    with pytest.raises(SolverError, match="1 to 8"):
        round_to_nearest(torch.ones(1, 1), bits)


@pytest.mark.parametrize("bits", [5, 6, 8])
@pytest.mark.parametrize("tail", [0.3, 1.0, 4.0])
def test_scales_that_are_not_tried_would_not_have_won(
    bits: int, tail: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From nearly uniform weights to rows with a few that are a thousand times the rest."""
    generator = torch.Generator().manual_seed(bits)
    weight = torch.randn(70, 600, generator=generator)
    weight = weight.sign() * weight.abs() ** tail
    weight[:5] = 0.0
    weight[5:10, 1:] = 0.0
    weight[10:20, 300:] = 0.0
    curvature = torch.rand(600, generator=generator) ** 4
    found = round_to_nearest(weight, bits, curvature)
    monkeypatch.setattr(quantize, "_LOOK", 10**9)
    tried = round_to_nearest(weight, bits, curvature)
    assert torch.equal(found.scale, tried.scale)
    assert torch.equal(found.codes, tried.codes)
