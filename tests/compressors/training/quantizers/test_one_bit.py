"""Quantisers of 1-bit weights: signs that may turn, scales above zero, and no code in between."""

from __future__ import annotations

import pytest
import torch

from paredown.compressors.rounding.groupwise import round_groups
from paredown.compressors.rounding.quantize import round_to_nearest
from paredown.compressors.storage.packing import read_packed, write_packed
from paredown.compressors.storage.stored import StoredTensor
from paredown.compressors.training.quantizers.table import QUANTIZERS
from paredown.spaces.candidates.blueprint import Storage

LATENT = [name for name in QUANTIZERS if name != "frozen"]


def stored(size: int) -> tuple[StoredTensor, torch.Tensor]:
    """Six rows of forty weights in one bit, one of them zero, and the weights."""
    generator = torch.Generator().manual_seed(size)
    weight = torch.randn(6, 40, generator=generator)
    weight[2] = 0.0
    found = round_groups(weight, 1, size) if size else round_to_nearest(weight, 1)
    storage = Storage(shape=(6, 40), bits=1, kept=240, onnx_type="int2", group_size=size)
    return StoredTensor(storage=storage, values=found.codes, scale=found.scale), weight


def step(quantizer, share: float) -> None:
    """One step against the sign of the gradient, by a share of each parameter's size."""
    for parameter, unit in ((each.parameter, each.unit) for each in quantizer.learned()):
        with torch.no_grad():
            parameter -= share * unit * parameter.grad.sign()
        parameter.grad = None
    quantizer.after_step()


@pytest.mark.parametrize("size", [0, 16, 32])
@pytest.mark.parametrize("name", list(QUANTIZERS))
def test_what_is_read_is_what_is_stored_and_packed_at_every_step(name, size, tmp_path) -> None:
    tensor, weight = stored(size)
    quantizer = QUANTIZERS[name](tensor, weight)
    if name != "sat":
        assert torch.equal(quantizer().detach(), tensor.dense())
    target = torch.randn(6, 40, generator=torch.Generator().manual_seed(1))
    for _ in range(3):
        (quantizer() - target).square().sum().backward()
        step(quantizer, 0.3)
        now = quantizer.stored()
        assert now.storage == tensor.storage
        assert torch.equal(now.values.abs(), torch.ones(6, 40, dtype=torch.int8))
        assert bool((now.scale > 0).all())
        assert torch.equal(quantizer().detach(), now.dense())
    write_packed(tmp_path / "w.safetensors", {"w": now})
    read = read_packed(tmp_path / "w.safetensors")["w"]
    assert torch.equal(read.values, now.values)
    assert torch.equal(read.scale, now.scale)


@pytest.mark.parametrize("name", LATENT)
def test_training_turns_signs_towards_what_the_loss_asks(name) -> None:
    tensor, weight = stored(0)
    quantizer = QUANTIZERS[name](tensor, weight)
    is_small = (weight != 0) & (weight.abs() < 0.4 * tensor.scale.unsqueeze(1))
    assert int(is_small.sum()) > 40
    wanted = torch.where(is_small, -tensor.dense(), tensor.dense())
    for _ in range(20):
        (quantizer() - wanted).square().sum().backward()
        step(quantizer, 0.1)
    assert torch.equal(
        quantizer.stored().values[weight != 0], wanted.sign()[weight != 0].to(torch.int8)
    )


def test_latent_weights_keep_their_size_so_that_small_ones_turn_first() -> None:
    tensor, weight = stored(0)
    latent = QUANTIZERS["lsq"](tensor, weight).latent.detach()
    scale = tensor.scale.unsqueeze(1)
    free = (weight.abs() > 0.51 * scale) & (weight.abs() < 1.49 * scale)
    assert int(free.sum()) > 80
    assert torch.equal(latent[free], weight[free])
    assert torch.equal(torch.where(latent < 0, -1, 1), tensor.values.int())
