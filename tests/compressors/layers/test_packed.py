"""What is packed comes back, in as few bytes as its codes need."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paredown.compressors.layers.packed import pack, unpack
from paredown.compressors.layers.solution import Factor, Solution
from paredown.compressors.rounding.groupwise import round_groups
from paredown.compressors.rounding.quantize import nearest_codes, top_code
from paredown.compressors.statistics.ranges import Range
from paredown.spaces.structure.model_map import Layer

ROWS, COLUMNS = 6, 10
LAYER = Layer(
    name="fc", nodes=("fc",), kind="linear", weight="fc.weight", bias="fc.bias",
    weight_shape=(ROWS, COLUMNS), out_axis=0, in_axis=1, groups=1, macs=ROWS * COLUMNS,
)  # fmt: skip


def make(bits: int, sparsity: float, seed: int) -> Solution:
    generator = torch.Generator().manual_seed(seed)
    top = top_code(bits)
    codes = torch.randint(-top, top + 1, (ROWS, COLUMNS), generator=generator, dtype=torch.int8)
    codes = nearest_codes(codes, bits)
    scale = torch.rand(ROWS, generator=generator) + 0.1
    mask = torch.rand(ROWS, COLUMNS, generator=generator) >= sparsity if sparsity else None
    codes = codes if mask is None else codes * mask
    return Solution(
        factors=(Factor(values=codes, scale=scale, mask=mask),),
        bias=torch.randn(ROWS, generator=generator),
        inner=(Range(minimum=-0.1, maximum=1 / 3, low=-0.1, high=0.3),) * 2,
        matrix=codes.float() * scale[:, None],
    )


@settings(max_examples=50, deadline=None)
@given(
    bits=st.integers(1, 8), sparsity=st.sampled_from([0.0, 0.5, 0.9]), seed=st.integers(0, 10**6)
)
def test_codes_scales_masks_and_ranges_come_back(bits: int, sparsity: float, seed: int) -> None:
    solution = make(bits, sparsity, seed)
    packed = pack(solution)
    found = unpack(packed, LAYER, None, COLUMNS)
    (before,), (after,) = solution.factors, found.factors
    assert after.values.dtype == torch.int8
    assert torch.equal(after.values, before.values)
    assert torch.equal(after.scale, before.scale)
    assert (after.mask is None) == (before.mask is None)
    assert after.mask is None or torch.equal(after.mask, before.mask)
    assert torch.equal(found.bias, solution.bias)
    assert torch.equal(found.matrix, solution.matrix)
    assert found.inner == solution.inner
    kept = ROWS * COLUMNS if before.mask is None else int(before.mask.sum())
    index = 0 if before.mask is None else -(-ROWS * COLUMNS // 8)
    assert packed.nbytes <= -(-kept * bits // 8) + index + 8 * ROWS


@pytest.mark.parametrize("size", [32, 64])
def test_scales_of_groups_come_back(size: int) -> None:
    torch.manual_seed(size)
    weight = torch.randn(ROWS, 100)
    layer = replace(LAYER, weight_shape=tuple(weight.shape))
    found = round_groups(weight, 4, size)
    solution = Solution(
        factors=(Factor(values=found.codes, scale=found.scale, mask=None),),
        bias=None,
        inner=(),
        matrix=found.dense(),
    )
    again = unpack(pack(solution), layer, None, 100)
    assert torch.equal(again.factors[0].scale, found.scale)
    assert torch.equal(again.matrix, solution.matrix)


@pytest.mark.parametrize("is_pruned", [False, True])
def test_floats_come_back_bit_for_bit(is_pruned: bool) -> None:
    values = torch.randn(ROWS, COLUMNS)
    mask = values > 0 if is_pruned else None
    values = values if mask is None else values * mask
    factor = Factor(values=values, scale=None, mask=mask)
    packed = pack(Solution(factors=(factor,), bias=None, inner=(), matrix=values))
    found = unpack(packed, LAYER, None, COLUMNS)
    assert torch.equal(found.factors[0].values, values)
    assert torch.equal(found.matrix, values)
    assert found.bias is None


def test_removed_columns_are_zero_in_the_matrix() -> None:
    values = torch.randn(ROWS, 3)
    columns = torch.tensor([1, 4, 9])
    solution = Solution(
        factors=(Factor(values=values, scale=None, mask=None),), bias=None, inner=(),
        matrix=values,
    )  # fmt: skip
    found = unpack(pack(solution), LAYER, columns, COLUMNS)
    expected = torch.zeros(ROWS, COLUMNS)
    expected[:, columns] = values
    assert torch.equal(found.matrix, expected)


def test_a_pair_of_factors_is_multiplied() -> None:
    first, second = torch.randn(2, COLUMNS), torch.randn(ROWS, 2)
    pair = tuple(Factor(values=values, scale=None, mask=None) for values in (first, second))
    solution = Solution(factors=pair, bias=None, inner=(), matrix=second @ first)
    found = unpack(pack(solution), LAYER, None, COLUMNS)
    assert torch.equal(found.matrix, second @ first)


def test_factors_that_are_read_at_several_positions_are_composed() -> None:
    kernel = (2, 5)
    layer = replace(LAYER, kind="conv2d", weight_shape=(ROWS, 3, *kernel))
    down, right = torch.randn(4, 3, 2, 1), torch.randn(ROWS, 4, 1, 5)
    pair = tuple(Factor(values=values, scale=None, mask=None) for values in (down, right))
    solution = Solution(factors=pair, bias=None, inner=(), matrix=torch.zeros(ROWS, 30))
    found = unpack(pack(solution), layer, None, 30)
    expected = torch.einsum("oryb,riax->oiab", right, down)
    assert torch.allclose(found.matrix.reshape(expected.shape), expected, atol=1e-5)
