"""A stored tensor stands for what its codes and scales multiply to, along any axis."""

import pytest
import torch

from paredown.compressors.storage.stored import StoredTensor
from paredown.spaces.candidates.blueprint import Storage


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_codes_times_the_scale_of_their_row(axis):
    generator = torch.Generator().manual_seed(axis)
    codes = torch.randint(-7, 8, (3, 4, 5), generator=generator, dtype=torch.int8)
    scale = torch.rand(codes.shape[axis], generator=generator)
    storage = Storage(shape=(3, 4, 5), bits=4, axis=axis, kept=60, onnx_type="int4")
    dense = StoredTensor(storage=storage, values=codes, scale=scale).dense()
    assert dense.dtype == torch.float32
    spread = ["i,ijk->ijk", "j,ijk->ijk", "k,ijk->ijk"][axis]
    torch.testing.assert_close(dense, torch.einsum(spread, scale, codes.float()))


def test_groups_of_a_row_have_their_own_scales_and_the_last_may_be_short():
    codes = torch.ones(2, 70, dtype=torch.int8)
    scale = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    storage = Storage(shape=(2, 70), bits=4, kept=140, onnx_type="int4", group_size=32)
    assert storage.scale_shape == (2, 3)
    dense = StoredTensor(storage=storage, values=codes, scale=scale).dense()
    assert dense[0].tolist() == [1.0] * 32 + [2.0] * 32 + [3.0] * 6
    assert dense[1].tolist() == [4.0] * 32 + [5.0] * 32 + [6.0] * 6


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float16, torch.float64])
def test_other_types_are_kept_as_they_are(dtype):
    values = torch.tensor([[0, 1], [1, 1]]).to(dtype).t()
    stored = StoredTensor.unchanged(values)
    assert stored.storage.dtype == str(dtype).removeprefix("torch.")
    assert (stored.storage.shape, stored.storage.kept) == ((2, 2), 4)
    assert stored.dense().dtype == dtype
    assert torch.equal(stored.dense(), values)
    assert stored.values.is_contiguous()


def test_floats_are_kept_in_single_precision_without_their_gradient():
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
    stored = StoredTensor.of_floats(weight)
    assert stored.dense().dtype == torch.float32
    assert not stored.dense().requires_grad
    assert stored.storage.bits == 32
