"""Bytes of a file's tensors are those of the stored ones, turned and packed as asked."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from paredown.compressors.onnx.payloads import code_bytes, dense_bytes, scale_bytes, scales_of
from paredown.compressors.onnx.plan import ExportError
from paredown.compressors.storage.stored import StoredTensor
from paredown.spaces.candidates.blueprint import Storage

CODES = torch.tensor([[1, -2, 3], [-4, 5, -6]], dtype=torch.int8)
SCALE = torch.tensor([0.5, 2.0])
STORED = {
    "w": StoredTensor(
        values=CODES,
        scale=SCALE,
        storage=Storage(shape=(2, 3), bits=4, axis=0, kept=6, onnx_type="int4"),
    ),
    "b": StoredTensor.of_floats(torch.tensor([[1.0, 2.0, 3.0]])),
}


@pytest.mark.parametrize("transposed", [False, True])
def test_codes_become_the_floats_they_stand_for(transposed: bool) -> None:
    expected = (CODES * SCALE[:, None]).numpy()
    found = np.frombuffer(dense_bytes("w", transposed)(STORED), "<f4")
    np.testing.assert_array_equal(found, (expected.T if transposed else expected).ravel())


def test_eight_bits_are_the_codes_themselves_and_four_two_to_a_byte() -> None:
    assert np.frombuffer(code_bytes("w", True, 8)(STORED), np.int8).tolist() == [
        1,
        -4,
        -2,
        5,
        3,
        -6,
    ]
    low_first = [(a & 15) | (b & 15) << 4 for a, b in ((1, -2), (3, -4), (5, -6))]
    assert list(code_bytes("w", False, 4)(STORED)) == low_first


def test_scales_are_floats_and_what_has_none_is_refused() -> None:
    assert np.frombuffer(scale_bytes("w")(STORED), "<f4").tolist() == [0.5, 2.0]
    with pytest.raises(ExportError, match="no scale"):
        scales_of(STORED["b"])
