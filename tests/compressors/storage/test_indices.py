"""Every index gives its mask back and takes the bytes that Storage claims, for any shape and axis."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from paredown.compressors.pruning.sparsify import magnitude
from paredown.compressors.storage.indices import (
    INDICES,
    PackingError,
    pack_blocks,
    pack_positions,
    pack_rows,
)
from paredown.spaces.candidates.blueprint import Index, Storage


def _mask(shape: tuple[int, ...], index: Index, density: float) -> Tensor:
    scores = torch.rand(shape)
    if index in ("2:4", "block"):
        return magnitude(scores.flatten(1), 1 - density, index)[1].reshape(shape)
    return scores < density


def test_every_index_has_a_way_to_write_it() -> None:
    assert {"none", *INDICES} == set(get_args(Index))


@pytest.mark.parametrize("index", list(INDICES))
@given(
    shape=st.lists(st.integers(1, 9), min_size=2, max_size=4).map(tuple),
    density=st.sampled_from([0.01, 0.1, 0.5, 0.9, 1.0]),
    axis=st.integers(0, 1),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=40, deadline=None)
def test_any_mask_comes_back_in_the_bytes_that_storage_claims(
    index: Index, shape: tuple[int, ...], density: float, axis: int, seed: int
) -> None:
    torch.manual_seed(seed)
    mask = _mask(shape, index, density)
    pack, unpack = INDICES[index]
    packed = pack(mask)
    stored = tuple(mask.movedim(0, axis).shape)
    storage = Storage(shape=stored, bits=4, axis=axis, kept=int(mask.sum()), index=index)
    assert packed.size == storage.index_bytes
    assert torch.equal(unpack(packed, shape), mask)


def test_rows_are_counts_then_columns_by_hand() -> None:
    # Three columns: counts 1 and 2 in two bits each, columns 2, 0 and 1 in two bits each.
    mask = torch.tensor([[False, False, True], [True, True, False]])
    assert pack_rows(mask).tolist() == [0b00101001, 0b01]


def test_blocks_are_a_bit_each_by_hand() -> None:
    # Nine columns: two blocks a row, and a column that is always kept.
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[0, 4:8] = False
    assert pack_blocks(mask).tolist() == [0b1101]


def test_the_cheapest_index_of_scattered_weights_turns_with_their_share() -> None:
    # 576 columns: a column number has ten bits, so a bit a weight costs more below one in ten.
    def storage(kept: int, index: Index) -> int:
        return Storage(shape=(64, 576), bits=4, kept=kept, index=index).index_bytes

    whole = 64 * 576
    assert storage(whole // 8, "bitmap") < storage(whole // 8, "csr")
    assert storage(whole // 16, "csr") < storage(whole // 16, "bitmap")


def test_masks_of_another_pattern_are_refused() -> None:
    with pytest.raises(PackingError, match="two of every four"):
        pack_positions(torch.tensor([[True, True, True, False]]))
    with pytest.raises(PackingError, match="all 4 columns or none"):
        pack_blocks(torch.tensor([[True, True, True, False]]))
    with pytest.raises(PackingError, match="and the tail"):
        pack_blocks(torch.tensor([[True, True, True, True, False]]))
