"""Loss-aware projections: the exact solver's, in the metric of the gradients that were seen."""

import torch

from paredown.compressors.rounding.codebook import fit_scaled_codebook, linear_levels
from paredown.compressors.storage.stored import StoredTensor
from paredown.compressors.training.quantizers.laq import Laq
from paredown.spaces.candidates.blueprint import Storage


def stepped(quantizer, gradient, latent):
    """The quantiser after a step that saw `gradient` and led to `latent`."""
    (quantizer() * gradient).sum().backward()
    assert torch.equal(quantizer.latent.grad, gradient), "it is handed on unchanged"
    with torch.no_grad():
        quantizer.latent.copy_(latent)
        quantizer.after_step()
    return quantizer


def test_two_bits_are_the_exact_solution_under_the_curvature_of_the_loss(coded):
    tensor = coded(bits=2, shape=(3, 12))
    draw = torch.Generator().manual_seed(1)
    gradient = torch.randn(3, 12, generator=draw) * torch.logspace(-2, 1, 12)
    latent = tensor.scale[:, None] * (2 * torch.rand(3, 12, generator=draw) - 1)
    found = stepped(Laq(tensor), gradient, latent).stored()
    # The second moment of one gradient, without its bias, is the gradient's square.
    wanted = fit_scaled_codebook(latent, gradient.abs() + 1e-8, linear_levels(2))
    assert torch.allclose(found.dense(), wanted.dense().float(), rtol=1e-4)
    blind = fit_scaled_codebook(latent, None, linear_levels(2))
    assert not torch.allclose(found.dense(), blind.dense().float(), rtol=1e-2)


def test_one_bit_is_lab_in_closed_form(coded):
    tensor = coded(bits=1, shape=(2, 6))
    draw = torch.Generator().manual_seed(1)
    gradient = torch.randn(2, 6, generator=draw)
    latent = tensor.scale[:, None] * (2 * torch.rand(2, 6, generator=draw) - 1)
    found = stepped(Laq(tensor), gradient, latent).stored()
    d = gradient.abs()
    # Hou, Yao and Kwok 2017, proposition 3.1: signs, and the curvature's mean of magnitudes.
    assert torch.equal(found.values.sign(), latent.sign().to(torch.int8))
    assert torch.allclose(found.scale, (d * latent.abs()).sum(1) / d.sum(1), rtol=1e-4)


def test_latents_are_clipped_at_the_range_of_now_so_that_weights_may_grow(coded):
    tensor = coded(bits=3)
    quantizer = Laq(tensor)
    for _ in range(3):
        limit = 3.5 * quantizer.stored().scale[:, None]
        stepped(quantizer, torch.ones(6, 10), 100 * torch.ones(6, 10))
        assert torch.allclose(quantizer.latent, limit.expand(6, 10))
        quantizer.latent.grad = None
    assert (quantizer.stored().scale > 1.5 * tensor.scale).all()


def test_the_first_projection_changes_nothing_whatever_the_curvature(coded):
    for bits in (1, 2, 4):
        tensor = coded(bits=bits)
        uncompressed = tensor.dense() + 0.3 * tensor.scale.min()
        quantizer = Laq(tensor, uncompressed)
        gradient = torch.randn(6, 10, generator=torch.Generator().manual_seed(bits))
        found = stepped(quantizer, gradient, quantizer.latent.detach().clone()).stored()
        assert torch.equal(found.values, tensor.values)
        assert torch.allclose(found.scale, tensor.scale, rtol=1e-6)


def test_latents_around_their_codes_keep_the_scales(coded):
    tensor = coded(bits=2, shape=(4, 4000))
    draw = torch.Generator().manual_seed(2)
    off = 0.25 * (2 * torch.rand(4, 4000, generator=draw) - 1)
    latent = tensor.dense() + off * tensor.scale[:, None]
    found = stepped(Laq(tensor, latent), torch.ones(4, 4000), latent).stored()
    # Uniform errors around a code have its mean: clipped at the code they would take an eighth of it.
    assert torch.allclose(found.scale, tensor.scale, rtol=0.01)
    assert torch.equal(found.values, tensor.values)


def test_codes_follow_the_support_at_once():
    storage = Storage(shape=(1, 2), bits=3, kept=1, index="bitmap")
    tensor = StoredTensor(
        storage=storage,
        values=torch.tensor([[3, 0]], dtype=torch.int8),
        scale=torch.tensor([0.5]),
        mask=torch.tensor([[True, False]]),
    )
    quantizer = stepped(Laq(tensor), torch.ones(1, 2), torch.tensor([[0.5, 1.5]]))
    with torch.no_grad():
        quantizer.rank(0.0)
    found = quantizer.stored()
    assert found.mask.tolist() == [[False, True]]
    assert found.values[0, 0] == 0
    assert found.values[0, 1] != 0
    assert torch.equal(quantizer(), found.dense())


def test_looking_is_no_step(coded):
    quantizer = Laq(coded())
    before = {n: x.clone() for n, x in quantizer.state_dict().items()}
    with torch.no_grad():
        quantizer()
    assert all(torch.equal(x, before[n]) for n, x in quantizer.state_dict().items())
