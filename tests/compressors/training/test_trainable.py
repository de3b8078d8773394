"""A trainable view computes what its model does, and freezes into a model of the same form."""

from dataclasses import replace

import pytest
import torch

from paredown.compressors.models.assembling import assemble
from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.training.activations import with_scales_of
from paredown.compressors.training.trainable import Trainable, View, learned_names
from paredown.spaces.candidates.blueprint import Blueprint


@pytest.fixture
def model_of(mapped, database, random_candidate):
    """(zoo network, seed) -> a random candidate of it, assembled."""

    def make(name: str, seed: int = 0) -> CompressedModel:
        return assemble(random_candidate(mapped(name), seed, None), database(name))

    return make


def moved(trainable: Trainable, inputs, by: float = 0.05) -> None:
    """Three steps of gradient descent towards zero outputs, each tensor by a share of its size."""
    for _ in range(3):
        trainable.zero_grad()
        sum(x.float().square().mean() for x in trainable(inputs)).backward()
        with torch.no_grad():
            for each in trainable.learned():
                gradient = each.parameter.grad
                if gradient is not None:
                    each.parameter.sub_(by * each.unit * gradient.sign())
        trainable.after_step()


def form(model: CompressedModel):
    return {n: (t.storage, t.values.dtype, t.values.shape) for n, t in model.stored.items()}


@pytest.mark.parametrize("quantizer", ["lsq", "laq", "frozen"])
def test_a_view_starts_as_its_model_and_freezes_into_it(
    zoo_name, quantizer, model_of, calibration
):
    model, inputs = model_of(zoo_name), calibration(zoo_name)
    trainable = Trainable(model, View(quantizer=quantizer, activations="fixed"))
    with torch.no_grad():
        for found, wanted in zip(trainable(inputs), model(inputs), strict=True):
            assert torch.equal(found, wanted)
    frozen = trainable.freeze()
    assert frozen.blueprint == model.blueprint
    for name, tensor in model.stored.items():
        assert torch.equal(frozen.stored[name].dense(), tensor.dense()), name


@pytest.mark.parametrize("quantizer", ["lsq", "laq", "sat", "frozen"])
def test_what_was_trained_is_what_is_frozen(zoo_name, quantizer, model_of, calibration):
    model, inputs = model_of(zoo_name, seed=1), calibration(zoo_name)
    trainable = Trainable(model, View(quantizer=quantizer))
    moved(trainable, inputs)
    frozen = trainable.freeze()
    assert form(frozen) == form(model)
    assert with_scales_of(model.blueprint, frozen.blueprint) == frozen.blueprint
    for tensor in frozen.stored.values():
        top = max(1, 2 ** (tensor.storage.bits - 1) - 1)
        if tensor.scale is not None:
            assert int(tensor.values.abs().max()) <= top
            assert bool((tensor.scale > 0).all())
        if tensor.mask is not None:
            assert int(tensor.mask.sum()) == tensor.storage.kept
            assert not bool(tensor.values[~tensor.mask].any())
    with torch.no_grad():
        for found, wanted in zip(trainable(inputs), frozen(inputs), strict=True):
            # Biases beside 8-bit inputs are rounded to their units as they are frozen, which moves some
            # values by a code: two at most in any output, and less than half of one on average.
            code, off = float(wanted.abs().max()) / 127, (found - wanted).abs()
            assert float(off.max()) <= 2 * code
            assert float(off.mean()) <= code / 2


@pytest.mark.parametrize("quantizer", ["lsq", "laq", "sat", "frozen"])
def test_every_network_learns_in_bfloat16(zoo_name, quantizer, model_of, calibration):
    model, inputs = model_of(zoo_name, seed=1), calibration(zoo_name)
    gradients = []
    for is_mixed in (False, True):
        trainable = Trainable(model, View(quantizer=quantizer))
        with torch.autocast("cpu", torch.bfloat16, enabled=is_mixed):
            outputs = trainable(inputs)
        sum(x.float().square().mean() for x in outputs).backward()
        found = [p.grad.flatten() for p in trainable.parameters() if p.grad is not None]
        gradients.append(torch.cat(found).double())
    assert gradients[0].shape == gradients[1].shape, "the same tensors learn"
    assert bool(gradients[1].isfinite().all())
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.9


def test_weights_biases_and_norms_learn_and_constants_stay(model_of, identity):
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm = torch.nn.Linear(4, 4), torch.nn.LayerNorm(4)
            self.register_buffer("mask", torch.ones(4))

        def forward(self, x):
            return self.norm(self.first(x)) * self.mask

    model = identity(Net(), torch.zeros(2, 4))
    assert sorted(set(learned_names(model))) == [
        "first.bias",
        "first.weight",
        "norm.bias",
        "norm.weight",
    ]
    trainable = Trainable(model)
    moved(trainable, [torch.randn(5, 4)])
    frozen = trainable.freeze()
    changed = {
        n for n, t in frozen.stored.items() if not torch.equal(t.values, model.stored[n].values)
    }
    assert changed == {"first.bias", "first.weight", "norm.bias", "norm.weight"}


def test_latent_weights_start_towards_the_uncompressed_ones(model_of, database, calibration):
    model = model_of("resnet_a", seed=2)
    known = Trainable(model, View(activations="fixed"), database("resnet_a").tensors)
    plain = Trainable(model, View(activations="fixed"))
    inputs = calibration("resnet_a")
    with torch.no_grad():
        assert torch.equal(known(inputs)[0], plain(inputs)[0]), "the codes are the same"
    known_state, plain_state = known.state_dict(), plain.state_dict()
    latents = [n for n in known_state if n.endswith("latent")]
    assert any(not torch.equal(known_state[n], plain_state[n]) for n in latents)


def test_a_state_comes_back(model_of, calibration):
    model, inputs = model_of("resnet_a", seed=1), calibration("resnet_a")
    first = Trainable(model)
    moved(first, inputs)
    second = Trainable(model)
    second.load_state_dict(first.state_dict())
    one, other = first.freeze(), second.freeze()
    assert one.blueprint == other.blueprint
    assert all(torch.equal(t.dense(), other.stored[n].dense()) for n, t in one.stored.items())


def test_blueprints_differ_in_scales_alone(model_of):
    blueprint: Blueprint = model_of("resnet_a").blueprint
    assert with_scales_of(blueprint, replace(blueprint, operators=())) == blueprint
