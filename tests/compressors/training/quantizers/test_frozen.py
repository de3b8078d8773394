"""Frozen codes: their scales learn by the plain gradient."""

import torch

from paredown.compressors.training.quantizers.frozen import Frozen
from paredown.compressors.training.quantizers.quantizer import ScaleRows


def test_the_gradient_of_a_scales_logarithm_is_that_of_its_row(coded):
    for kind in ({}, {"group_size": 4}, {"shape": (4, 3, 2, 2), "axis": 1}):
        tensor = coded(bits=3, **kind)
        quantizer = Frozen(tensor)
        weights = torch.randn(tensor.values.shape)
        (quantizer() * weights).sum().backward()
        rows = ScaleRows(tensor.storage)
        wanted = rows.split(weights * tensor.dense()).sum(dim=1).view(tensor.scale.shape)
        assert torch.allclose(quantizer.factor.grad, wanted, atol=1e-5)


def test_neither_ranking_nor_pulling_moves_a_code(coded):
    tensor = coded(bits=3, index="bitmap")
    quantizer = Frozen(tensor)
    with torch.no_grad():
        quantizer.rank(0.0)
        quantizer.pull(1.0)
        quantizer.after_step()
    found = quantizer.stored()
    assert torch.equal(found.values, tensor.values)
    assert torch.equal(found.mask, tensor.mask)
    assert torch.equal(found.scale, tensor.scale)
