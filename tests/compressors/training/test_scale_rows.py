"""Rows of one scale each: what `split` takes apart `join` puts together."""

import pytest
import torch

from paredown.compressors.storage.stored import spread
from paredown.compressors.training.scale_rows import ScaleRows


@pytest.mark.parametrize(
    "kind",
    [
        {"shape": (3, 8)},
        {"shape": (4, 3, 2, 2)},
        {"shape": (4, 3, 2, 2), "axis": 1},
        {"shape": (3, 10), "group_size": 4},
    ],
)
def test_each_row_has_one_scale_and_comes_back(coded, kind):
    tensor = coded(bits=4, **kind)
    rows = ScaleRows(tensor.storage)
    x = torch.randn(tensor.values.shape)
    split = rows.split(x)
    assert len(split) == tensor.scale.numel()
    assert torch.equal(rows.join(split), x)
    # Scales times rows are what `spread` multiplies with.
    scaled = rows.join(split * tensor.scale.flatten()[:, None])
    assert torch.equal(scaled, x * spread(tensor.scale, tensor.storage))


def test_a_last_group_is_filled_with_zeros(coded):
    rows = ScaleRows(coded(bits=4, shape=(1, 6), group_size=4).storage)
    split = rows.split(torch.arange(1.0, 7.0)[None])
    assert split.tolist() == [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 0.0, 0.0]]
