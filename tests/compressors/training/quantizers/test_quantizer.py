"""What quantisers share: where latent weights start, and the size of values."""

import pytest
import torch

from paredown.compressors.storage.stored import spread
from paredown.compressors.training.quantizers.quantizer import (
    ScaleRows,
    as_stored,
    latent_weights,
    masked,
    size_of_values,
)


@pytest.mark.parametrize("kind", [{}, {"shape": (4, 3, 2, 2), "axis": 1}, {"group_size": 4}])
def test_latents_start_at_the_uncompressed_weights_as_far_as_codes_allow(coded, kind):
    tensor = coded(bits=3, **kind)
    dense = tensor.dense()
    wanted = dense + 0.2 * torch.randn(dense.shape, generator=torch.Generator().manual_seed(0))
    latent = latent_weights(tensor, wanted)
    is_near = (wanted - dense).abs() < 0.2 * 0.05  # a fifth of the smallest scale there is
    assert torch.equal(latent[is_near], wanted[is_near])
    assert bool(((latent - dense) * (wanted - dense) >= 0).all())
    assert bool(((latent - dense).abs() <= (wanted - dense).abs() + 1e-6).all())


def test_without_the_uncompressed_weights_they_start_at_the_codes(coded):
    tensor = coded()
    assert torch.equal(latent_weights(tensor, None), tensor.dense())
    assert torch.equal(latent_weights(tensor, torch.zeros(3)), tensor.dense()), "another width"


def test_the_size_of_values_is_that_of_those_other_than_zero():
    assert size_of_values(torch.tensor([3.0, 0.0, -4.0])) == pytest.approx(12.5**0.5)
    assert size_of_values(torch.zeros(3)) == 1.0


def test_codes_are_stored_as_integers_apart_from_what_learns(coded):
    tensor = coded(bits=3, index="bitmap")
    codes, scale = tensor.values.float(), tensor.scale.clone()
    found = as_stored(tensor.storage, codes, scale, tensor.mask)
    scale.zero_()
    assert torch.equal(found.values, tensor.values)
    assert torch.equal(found.scale, tensor.scale)
    assert torch.equal(masked(torch.ones(6, 10), tensor.mask), tensor.mask.float())
    assert masked(codes, None) is codes


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
