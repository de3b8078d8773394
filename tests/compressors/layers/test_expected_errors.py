"""What rounding, pruning and compensation are expected to cost, against what they cost."""

from __future__ import annotations

import pytest
import torch

from paredown.compressors.layers.expected_errors import (
    SampledRows,
    by_row,
    compensated_share,
    inverse,
    removed,
    rounding_errors,
    variance_left,
)
from paredown.compressors.matrix.algebra import SolverError
from paredown.compressors.rounding.groupwise import round_groups
from paredown.compressors.rounding.quantize import round_to_nearest
from paredown.spaces.candidates.zeros import Zeros, kept_count


def correlated(r: float) -> torch.Tensor:
    return torch.tensor([[1.0, r], [r, 1.0]], dtype=torch.float64)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("size", [0, 32])
def test_rounding_errs_by_hardly_more_than_the_best_scales(bits: int, size: int) -> None:
    weight = torch.randn(40, 90, generator=torch.Generator().manual_seed(bits))
    best = round_groups(weight, bits, size) if size else round_to_nearest(weight, bits)
    least = (best.dense() - weight).square().sum(dim=1)
    errors = rounding_errors(weight, bits, size)
    assert errors.shape == weight.shape
    assert 0.999 <= float(errors.sum() / least.sum()) <= (1.05 if bits < 8 else 1.3)


def test_zeros_stay_zero_at_any_scale() -> None:
    weight = torch.tensor([[0.0, 1.0, -1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    for bits in (1, 2, 4):
        assert rounding_errors(weight, bits, 0).sum() < 1e-12


def test_what_compensation_leaves_is_the_variance_given_what_comes_before() -> None:
    # Of two inputs that correlate by r the second has the variance 1 - r^2 once the first is known.
    assert compensated_share(correlated(0.0)) == pytest.approx(1.0, abs=1e-4)
    assert compensated_share(correlated(0.8)) == pytest.approx((1 + 1 - 0.64) / 2, abs=0.01)
    two = torch.stack([correlated(0.0), correlated(0.8)])
    assert compensated_share(two) == pytest.approx((2 + 2 - 0.64) / 4, abs=0.01)
    assert compensated_share(torch.ones(3)) == 1.0


def test_the_variance_left_is_that_given_all_others() -> None:
    left = variance_left(correlated(0.8))
    assert left.flatten().tolist() == pytest.approx([0.36, 0.36], abs=0.02)
    diagonal = torch.tensor([2.0, 3.0])
    assert torch.equal(variance_left(diagonal), diagonal)
    assert torch.allclose(inverse(torch.eye(3))[0], torch.eye(3) / 1.01)


def test_each_row_has_the_inputs_of_its_group() -> None:
    groups = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert by_row(groups, 4).tolist() == [[1, 2], [1, 2], [3, 4], [3, 4]]
    assert by_row(groups[0], 2).tolist() == [[1, 2], [1, 2]]


@pytest.mark.parametrize("pattern", ["element", "block", "2:4"])
def test_as_many_weights_go_as_the_pattern_asks_for(pattern) -> None:
    scores = torch.rand(30, 42, generator=torch.Generator().manual_seed(0))
    gone = removed(scores, torch.ones(30), Zeros(0.5, pattern))
    kept = kept_count(30, 42, 0.5, pattern)
    assert int((~gone).sum()) == pytest.approx(kept, abs=4)
    if pattern == "element":
        assert scores[gone].max() < scores[~gone].min()


def test_a_row_that_stands_for_many_counts_as_many() -> None:
    # Nine rows of low scores behind the second: half of all weights are among them.
    scores = torch.stack([torch.linspace(10, 20, 100), torch.linspace(0, 1, 100)])
    gone = removed(scores, torch.tensor([1.0, 9.0]), Zeros(0.45, "element"))
    assert not gone[0].any()
    assert int(gone[1].sum()) == pytest.approx(50, abs=1)


def test_a_sample_of_rows_sums_as_all_do() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(4000, 300, generator=generator)
    # As of tokens: few are met often.
    curvature = 1 / torch.arange(1, 4001).double()
    sample = SampledRows.of(matrix, curvature)
    assert len(sample.rows) < 1000
    assert float(sample.count.sum()) == pytest.approx(4000)
    whole = float(curvature @ matrix.double().square().sum(dim=1))
    assert sample.sum(sample.rows.square()) == pytest.approx(whole, rel=0.05)
    small = SampledRows.of(matrix[:50], curvature[:50])
    exact = float(curvature[:50] @ matrix[:50].double().square().sum(dim=1))
    assert small.sum(small.rows.square()) == pytest.approx(exact, rel=1e-5)


def test_weights_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(SolverError, match="must be finite"):
        SampledRows.of(torch.tensor([[float("nan")]]), torch.ones(1))
