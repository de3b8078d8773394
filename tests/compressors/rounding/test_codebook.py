"""The codebook solver finds what trying every code finds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from paredown.compressors.matrix.algebra import SolverError
from paredown.compressors.rounding.codebook import (
    _descending,
    alternate,
    exact_scales,
    fit_scaled_codebook,
    fit_two_scales,
    linear_levels,
    logarithmic_levels,
    ternary_by_threshold,
)

LEVELS = {
    "binary": linear_levels(1),
    "ternary": linear_levels(2),
    "linear": linear_levels(3),
    "logarithmic": logarithmic_levels(3),
}


def _loss(dense: Tensor, w: Tensor, d: Tensor) -> Tensor:
    return (d * (dense - w).square()).sum(dim=1)


def _instance(seed: int, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    return w, torch.rand(rows, columns, generator=generator, dtype=torch.float64) + 0.02


def _brute_force(w: np.ndarray, d: np.ndarray, levels: tuple[float, ...], kept: int) -> float:
    """Least loss over all vectors of signed levels with at most `kept` nonzeros."""
    signed = sorted({s * level for level in levels for s in (-1, 1)})
    best = np.inf if 0 not in levels else float((d * w * w).sum())
    for codes in itertools.product(signed, repeat=len(w)):
        b = np.array(codes)
        size, overlap = (d * b * b).sum(), (d * b * w).sum()
        if size > 0 and overlap > 0 and np.count_nonzero(b) <= kept:
            best = min(best, float((d * (b * overlap / size - w) ** 2).sum()))
    return best


@pytest.mark.parametrize("name", LEVELS)
@pytest.mark.parametrize("seed", range(4))
def test_it_is_as_good_as_trying_every_code(name: str, seed: int) -> None:
    count = {"binary": 7, "ternary": 6}.get(name, 4)
    w, d = _instance(seed, 3, count)
    losses = _loss(fit_scaled_codebook(w, d, LEVELS[name]).dense(), w, d)
    for row in range(3):
        best = _brute_force(w[row].numpy(), d[row].numpy(), LEVELS[name], count)
        assert float(losses[row]) == pytest.approx(best, rel=1e-9, abs=1e-14)


@pytest.mark.parametrize(
    "levels", [(0.0, 1.0), (0.0, 0.5, 1.0), linear_levels(3), logarithmic_levels(3)]
)
@pytest.mark.parametrize(("sparsity", "kept"), [(0.0, 4), (0.25, 3), (0.5, 2)])
@pytest.mark.parametrize("seed", range(3))
def test_joint_zeros_and_codes_are_as_good_as_trying_all(
    levels: tuple[float, ...], sparsity: float, kept: int, seed: int
) -> None:
    w, d = _instance(seed, 4, 4)
    found = fit_scaled_codebook(w, d, levels, sparsity=sparsity)
    losses = _loss(found.dense(), w, d)
    assert ((found.codes != 0).sum(dim=1) <= kept).all()
    for row in range(4):
        best = _brute_force(w[row].numpy(), d[row].numpy(), levels, kept)
        assert float(losses[row]) == pytest.approx(best, rel=1e-9, abs=1e-14)


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(list(LEVELS)),
    rows=st.integers(1, 4),
    columns=st.integers(1, 30),
    seed=st.integers(0, 10**6),
)
def test_rows_are_alone_signs_mirror_and_no_alternation_beats_it(
    name: str, rows: int, columns: int, seed: int
) -> None:
    w, d = _instance(seed, rows, columns)
    found = fit_scaled_codebook(w, d, LEVELS[name])
    assert torch.equal(fit_scaled_codebook(-w, d, LEVELS[name]).codes, -found.codes)
    alone = fit_scaled_codebook(w[:1], d[:1], LEVELS[name])
    assert torch.equal(alone.codes, found.codes[:1])
    start = w.abs().amax(dim=1)
    other = alternate(w, d, LEVELS[name], start)
    assert (_loss(found.dense(), w, d) <= _loss(other.dense(), w, d) + 1e-12).all()


def test_one_bit_with_curvature_is_lab_and_without_it_is_bwn() -> None:
    w, d = _instance(0, 4, 12)
    lab = fit_scaled_codebook(w, d, linear_levels(1))
    assert torch.allclose(lab.scale, (d * w.abs()).sum(1) / d.sum(1))
    assert torch.equal(lab.codes, w.sign())
    bwn = fit_scaled_codebook(w, None, linear_levels(1))
    assert torch.allclose(bwn.scale, w.abs().mean(1))


def test_ternary_orders_exact_approximate_and_threshold() -> None:
    w, d = _instance(1, 20, 60)
    ones = torch.ones_like(w)
    twn = ternary_by_threshold(w)
    approximate = alternate(w, ones, linear_levels(2), twn.scale)
    exact = fit_scaled_codebook(w, ones, linear_levels(2))
    losses = [_loss(found.dense(), w, ones) for found in (exact, approximate, twn)]
    assert (losses[0] <= losses[1] + 1e-12).all()
    assert (losses[1] <= losses[2] + 1e-12).all()
    aware = fit_scaled_codebook(w, d, linear_levels(2))
    assert (_loss(aware.dense(), w, d) <= _loss(exact.dense(), w, d) + 1e-12).all()


def test_two_scales_are_two_problems_and_never_worse_than_one() -> None:
    w, d = _instance(2, 6, 20)
    w[0] = w[0].abs()
    dense, scales = fit_two_scales(w, d, linear_levels(2))
    one = fit_scaled_codebook(w, d, linear_levels(2))
    assert (_loss(dense, w, d) <= _loss(one.dense(), w, d) + 1e-12).all()
    assert float(scales[0, 1]) == 0.0
    positive = fit_scaled_codebook(w.clamp_min(0), d, linear_levels(2))
    assert torch.equal(scales[:, 0], positive.scale)


def test_one_scale_for_a_tensor_is_the_flattened_problem() -> None:
    w, d = _instance(3, 3, 8)
    found = fit_scaled_codebook(w, d, linear_levels(3), "tensor")
    flat = fit_scaled_codebook(w.view(1, -1), d.view(1, -1), linear_levels(3))
    assert torch.equal(found.codes.view(1, -1), flat.codes)
    assert torch.equal(found.scale, flat.scale.expand(3))


def test_zeros_no_curvature_and_exact_zeros_are_handled() -> None:
    w = torch.tensor([[0.0, 0.0], [1.0, -1.0], [0.0, 2.0]])
    none = fit_scaled_codebook(w, torch.zeros_like(w), linear_levels(2))
    assert float(none.scale[0]) == 0.0
    assert not none.codes[0].any()
    assert torch.allclose(none.dense()[1], w[1].double())
    # sgn(0) is 1 where there is no level 0.
    binary = fit_scaled_codebook(w, None, linear_levels(1))
    assert binary.codes[2].tolist() == [1.0, 1.0]
    assert not binary.dense()[0].any()


def test_log_levels_never_take_the_logarithm_of_zero() -> None:
    w = torch.tensor([[0.0, 1e-30, 1.0]])
    found = fit_scaled_codebook(w, None, logarithmic_levels(4))
    assert torch.isfinite(found.dense()).all()
    assert found.codes[0, 0] == 0


def test_equal_magnitudes_keep_the_first_and_a_share_of_one_still_keeps_one() -> None:
    found = fit_scaled_codebook(torch.ones(1, 4), None, linear_levels(2), sparsity=0.5)
    assert found.codes.tolist() == [[1.0, 1.0, 0.0, 0.0]]
    one = fit_scaled_codebook(torch.ones(1, 4), None, linear_levels(2), sparsity=0.99)
    assert int((one.codes != 0).sum()) == 1


@pytest.mark.parametrize(
    ("levels", "sparsity", "text"),
    [
        ((1.0, 0.5), None, "ascending"),
        ((0.0,), None, "ascending"),
        ((1.0,), 0.5, "needs the level 0"),
        ((0.0, 1.0), 1.0, r"\[0, 1\)"),
    ],
)
def test_bad_levels_and_sparsities_are_refused(
    levels: tuple[float, ...], sparsity: float | None, text: str
) -> None:
    with pytest.raises(SolverError, match=text):
        fit_scaled_codebook(torch.ones(1, 2), None, levels, sparsity=sparsity)


def test_events_are_put_in_descending_order_up_to_their_last_bits() -> None:
    generator = torch.Generator().manual_seed(0)
    for count in (1, 2, 1000, 5000):
        events = torch.rand(3, count, generator=generator, dtype=torch.float64) ** 20
        events[0, : count // 2] = 0.0
        order = _descending(events)
        assert torch.equal(order.sort(dim=1).values, torch.arange(count).expand(3, -1))
        # 13 of 52 bits hold the position.
        best = events.sort(dim=1, descending=True).values
        assert torch.allclose(events.gather(1, order), best, rtol=2.0**-38, atol=0.0)


@pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS.keys())
def test_scales_alone_are_those_beside_the_codes(levels: tuple[float, ...]) -> None:
    w, d = _instance(3, 40, 30)
    w[0], d[1], d[2, :15] = 0.0, 0.0, 0.0
    assert torch.equal(exact_scales(w, d, levels), fit_scaled_codebook(w, d, levels).scale)
