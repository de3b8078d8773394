"""Squashed weights keep the size of their rows, and pass their gradients by steps."""

import pytest
import torch

from paredown.compressors.storage.stored import spread
from paredown.compressors.training.quantizers.quantizer import ScaleRows
from paredown.compressors.training.quantizers.sat import Sat


@pytest.mark.parametrize("kind", [{}, {"shape": (4, 3, 2, 2), "axis": 1}, {"group_size": 4}])
def test_rows_keep_their_size_whatever_their_codes(coded, kind):
    tensor = coded(bits=3, **kind)
    quantizer, rows = Sat(tensor), ScaleRows(tensor.storage)
    with torch.no_grad():
        quantizer.latent.add_(torch.randn(tensor.values.shape))
        found = rows.split(quantizer()).norm(dim=1)
    assert not torch.equal(quantizer.stored().values, tensor.values)
    assert torch.allclose(found, rows.split(tensor.dense()).norm(dim=1), rtol=1e-5)


def test_the_gradient_is_that_of_the_squashing_times_the_scale(coded):
    tensor = coded(bits=3)
    quantizer = Sat(tensor)
    weights = torch.randn(tensor.values.shape)
    (quantizer() * weights).sum().backward()
    scale = quantizer.stored().scale
    squashed = 1 - quantizer.latent.detach().tanh().square()
    wanted = weights * 3 * squashed * spread(scale, tensor.storage)
    assert torch.allclose(quantizer.latent.grad, wanted, rtol=1e-5)
