"""Packing is exact, takes the bytes that Storage claims, and refuses what does not fit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paredown.compressors.pruning.sparsify import magnitude
from paredown.compressors.storage.packing import (
    PackingError,
    pack_codes,
    read_packed,
    unpack_codes,
    write_packed,
)
from paredown.compressors.storage.stored import StoredTensor
from paredown.spaces.candidates.blueprint import Index, Storage

WIDTHS = (1, 2, 3, 4, 5, 6, 8)


def make(shape: tuple[int, ...], bits: int, index: Index) -> StoredTensor:
    mask = None
    if index == "2:4":
        mask = magnitude(torch.rand(shape).flatten(1), 0.5, "2:4")[1].view(shape)
    elif index == "block":
        mask = magnitude(torch.rand(shape).flatten(1), 0.6, "block")[1].view(shape)
    elif index != "none":
        mask = torch.rand(shape) < (0.4 if index == "bitmap" else 0.05)
    if bits == 32:
        values, scale = torch.randn(shape), None
    else:
        limit = (1 << (bits - 1)) - 1
        values = torch.randint(-limit, limit + 1, shape, dtype=torch.int8)
        if bits == 1:
            values = 2 * torch.randint(0, 2, shape, dtype=torch.int8) - 1
        scale = torch.rand(shape[0])
    if mask is not None:
        values = values * mask
    kept = values.numel() if mask is None else int(mask.sum())
    storage = Storage(shape=shape, bits=bits, kept=kept, index=index)
    return StoredTensor(storage=storage, values=values, scale=scale, mask=mask)


def test_codes_are_laid_out_from_the_lowest_bit() -> None:
    # 3-bit fields of 1, -1, 2 are 001, 111, 010: from the lowest bit 1 00 | 111 | 010
    assert pack_codes(torch.tensor([1, -1, 2], dtype=torch.int8), 3) == bytes([0b10111001, 0])


def test_one_bit_is_the_sign_from_the_lowest_bit() -> None:
    codes = torch.tensor([-1, 1, 1, -1, 1, 1, 1, 1, -1], dtype=torch.int8)
    assert pack_codes(codes, 1) == bytes([0b00001001, 1])
    with pytest.raises(PackingError, match="one bit must be -1 or 1"):
        pack_codes(torch.tensor([-1, 0], dtype=torch.int8), 1)


@given(st.sampled_from(WIDTHS), st.data())
@settings(max_examples=60, deadline=None)
def test_any_codes_come_back_exactly(bits: int, data: st.DataObject) -> None:
    limit = 1 << (bits - 1)
    each = st.sampled_from((-1, 1)) if bits == 1 else st.integers(-limit, limit - 1)
    codes = torch.tensor(data.draw(st.lists(each, max_size=40)), dtype=torch.int8)
    packed = pack_codes(codes, bits)
    assert len(packed) == math.ceil(len(codes) * bits / 8)
    data_array = torch.tensor(list(packed), dtype=torch.uint8).numpy()
    assert torch.equal(unpack_codes(data_array, bits, len(codes)), codes)


def test_a_code_that_does_not_fit_is_refused() -> None:
    with pytest.raises(PackingError, match=r"fit 3 bits, got -4\.\.4"):
        pack_codes(torch.tensor([-4, 4], dtype=torch.int8), 3)


@pytest.mark.parametrize("index", get_args(Index))
@pytest.mark.parametrize("bits", [*WIDTHS, 32])
def test_a_file_gives_the_same_tensors_back_bit_for_bit(
    bits: int, index: Index, tmp_path: Path
) -> None:
    torch.manual_seed(bits)
    written = {
        "a.weight": make((6, 5, 3, 3), bits, index),
        "b": StoredTensor.of_floats(torch.pi * torch.ones(7)),
    }
    write_packed(tmp_path / "t.safetensors", written)
    read = read_packed(tmp_path / "t.safetensors")
    assert list(read) == list(written)
    for name, tensor in written.items():
        assert read[name].storage == tensor.storage
        assert torch.equal(read[name].dense(), tensor.dense())
        assert read[name].values.dtype == tensor.values.dtype
        for ours, theirs in ((tensor.scale, read[name].scale), (tensor.mask, read[name].mask)):
            assert (ours is None and theirs is None) or torch.equal(ours, theirs)


def test_values_that_are_not_kept_must_be_zero(tmp_path: Path) -> None:
    good = make((4, 8), 4, "bitmap")
    bad = StoredTensor(
        storage=good.storage, values=torch.ones_like(good.values), scale=good.scale, mask=good.mask
    )
    with pytest.raises(PackingError, match="zeros"):
        write_packed(tmp_path / "t.safetensors", {"w": bad})
