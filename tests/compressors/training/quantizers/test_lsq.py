"""Learned steps: the gradients of Esser et al. 2020 by hand, and which weights are worth keeping."""

import math

import pytest
import torch

from paredown.compressors.storage.stored import StoredTensor, spread
from paredown.compressors.training.quantizers.lsq import Lsq
from paredown.spaces.candidates.blueprint import Storage


@pytest.mark.parametrize(
    "kind",
    [{"shape": (3, 8)}, {"shape": (3, 8), "group_size": 4}, {"shape": (4, 3, 2, 2), "axis": 1}],
)
def test_gradients_by_latents_and_scales_are_those_of_the_paper(coded, kind):
    bits, top = 3, 3
    tensor = coded(bits=bits, **kind)
    quantizer = Lsq(tensor)
    draw = torch.Generator().manual_seed(4)
    with torch.no_grad():
        quantizer.latent.mul_(1 + torch.randn(tensor.values.shape, generator=draw))
    weights = torch.randn(tensor.values.shape, generator=draw)
    (quantizer() * weights).sum().backward()

    step = spread(tensor.scale, tensor.storage).expand(tensor.values.shape)
    steps = quantizer.latent.detach() / step
    by_latent = torch.where(steps.abs() <= top, weights, torch.zeros(()))
    assert bool((by_latent == 0).any())
    assert torch.equal(quantizer.latent.grad, by_latent)
    by_step = (
        torch.where(steps.abs() <= top, steps.round() - steps, steps.clamp(-top, top)) * weights
    )
    count = tensor.values.numel() / tensor.scale.numel()
    # By the logarithm of a scale: the scale times the gradient by it.
    each = by_step * step / math.sqrt(count * top)
    rows = each.movedim(tensor.storage.axis, 0).flatten(1)
    size = tensor.storage.group_size or rows.shape[1]
    wanted = rows.reshape(-1, size).sum(dim=1).view(tensor.scale.shape)
    assert torch.allclose(quantizer.factor.grad, wanted, rtol=1e-4, atol=1e-6)


def test_the_weight_that_saves_more_takes_the_place_of_one_that_saves_less():
    storage = Storage(shape=(1, 4), bits=3, kept=2, index="bitmap")
    mask = torch.tensor([[True, True, False, False]])
    codes = torch.tensor([[3, 1, 0, 0]], dtype=torch.int8)
    tensor = StoredTensor(storage=storage, values=codes, scale=torch.tensor([0.5]), mask=mask)
    quantizer = Lsq(tensor)
    with torch.no_grad():
        quantizer.latent.copy_(torch.tensor([[1.5, 0.4, 0.1, 0.9]]))
        quantizer.rank(0.0)
    # What a code c of scale 0.5 saves of w: w^2 - (w - c)^2 = 2.25, 0.15, -0.15 and 0.8.
    assert quantizer.support.mask.tolist() == [[True, False, False, True]]
    assert quantizer.stored().values.tolist() == [[3, 0, 0, 2]]


def test_latents_beyond_the_last_code_are_not_pulled_back(coded):
    tensor = coded(bits=2)
    quantizer = Lsq(tensor)
    far = 3 * spread(tensor.scale, tensor.storage).expand(tensor.values.shape)
    with torch.no_grad():
        quantizer.latent.copy_(far)
        quantizer.pull(0.5)
    assert torch.equal(quantizer.latent, far)
