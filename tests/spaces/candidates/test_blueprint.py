"""Bytes of a stored tensor, counted by hand and against tensors that are packed bit by bit."""

import math

import numpy as np
import pytest

from paredown.spaces.candidates.blueprint import ITEM_BYTES, Storage, field_bits


def test_a_field_has_room_for_its_values_and_not_for_twice_as_many():
    for values in range(1, 300):
        bits = field_bits(values)
        assert 2**bits >= values
        assert values == 1 or 2 ** (bits - 1) < values


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "float16", "int64", "float64"])
def test_values_as_they_are_take_the_bytes_of_their_type(dtype):
    values = np.zeros((3, 5), dtype)
    storage = Storage(shape=(3, 5), kept=15, dtype=dtype)
    assert storage.packed_bytes == values.nbytes
    assert ITEM_BYTES[dtype] == values.itemsize
    assert storage.scale_shape == (0,)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 8])
def test_codes_take_their_bits_and_a_scale_for_each_row(bits):
    storage = Storage(shape=(6, 5, 3, 3), bits=bits, kept=270, onnx_type="int8")
    assert storage.payload_bytes == len(np.packbits(np.zeros(270 * bits, bool)))
    assert storage.scale_shape == (6,)
    assert storage.packed_bytes == storage.payload_bytes + 4 * 6
    # Of a transposed layer the rows lie on the second axis.
    assert Storage(shape=(6, 5, 3, 3), bits=bits, axis=1, kept=270).scale_shape == (5,)


@pytest.mark.parametrize(("columns", "groups"), [(128, 4), (130, 5), (32, 1), (33, 2)])
def test_groups_of_a_row_have_a_scale_each_and_the_last_may_be_short(columns, groups):
    storage = Storage(shape=(7, columns), bits=4, kept=7 * columns, group_size=32)
    assert storage.scale_shape == (7, groups)
    assert storage.scale_count == 7 * groups


def test_an_index_counts_what_it_must_tell():
    rows, columns, kept = 10, 144, 360
    sizes = {
        index: Storage(shape=(rows, 16, 3, 3), bits=4, kept=kept, index=index).index_bytes
        for index in ("none", "bitmap", "csr", "2:4", "block")
    }
    assert sizes == {
        "none": 0,
        "bitmap": rows * columns // 8,
        # A count of 0..144 for each row, a column of 144 for each value.
        "csr": (rows * 8 + kept * 8) // 8,
        "2:4": kept * 2 // 8,
        "block": math.ceil(rows * columns / 4 / 8),
    }


@pytest.mark.parametrize(
    ("storage", "fits", "stays"),
    [
        (Storage(shape=(2, 64), kept=128), False, False),
        (Storage(shape=(2, 64), kept=128, bits=4, onnx_type="int4"), True, False),
        (Storage(shape=(2, 64), kept=128, bits=4, onnx_type="int4", group_size=32), False, True),
        # Codes that are widened in the file are floats to every kernel.
        (Storage(shape=(2, 64), kept=128, bits=4), False, False),
    ],
)
def test_integer_kernels_read_codes_with_one_scale_a_row(storage, fits, stays):
    assert storage.fits_integer_kernels is fits
    assert storage.stays_float is stays


def test_a_scalar_has_one_row_of_one_value():
    storage = Storage(shape=(), kept=1, index="bitmap")
    assert (storage.count, storage.index_bytes) == (1, 1)
