"""One contract that every quantiser keeps: codes of the same storage, whatever is learned."""

from dataclasses import replace

import pytest
import torch

from paredown.compressors.rounding.quantize import top_code
from paredown.compressors.training.quantizers.table import QUANTIZERS

STORAGES = {
    "1 bit": {"bits": 1},
    "2 bits": {"bits": 2},
    "8 bits": {"bits": 8},
    "convolution": {"bits": 3, "shape": (4, 3, 3, 3)},
    "transposed convolution": {"bits": 4, "shape": (3, 5, 2, 2), "axis": 1},
    "groups with a rest": {"bits": 3, "shape": (4, 10), "group_size": 4},
    "bitmap": {"bits": 3, "index": "bitmap"},
    "csr": {"bits": 2, "index": "csr"},
    "2:4": {"bits": 4, "index": "2:4"},
    "2:4 along axis 1": {"bits": 4, "index": "2:4", "shape": (9, 5), "axis": 1},
    "block": {"bits": 3, "index": "block"},
    "bitmap in groups": {"bits": 4, "index": "bitmap", "shape": (4, 10), "group_size": 4},
}


@pytest.fixture(params=QUANTIZERS)
def name(request):
    return request.param


@pytest.fixture(params=STORAGES)
def tensor(request, coded):
    return coded(**STORAGES[request.param])


def wanted_of(tensor, by=0.3):
    """The tensor before it was rounded: off by less than half a step."""
    noise = torch.rand(tensor.values.shape, generator=torch.Generator().manual_seed(5)) - 0.5
    dense = tensor.dense()
    return dense + 2 * by * noise * float(tensor.scale.min())


def pull_to(quantizer, target, steps, rate=0.02):
    """Losses on the way of an optimiser towards the dense tensor `target`."""
    groups = [{"params": [x.parameter], "lr": rate * x.unit} for x in quantizer.learned()]
    optimizer, losses = torch.optim.Adam(groups), []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (quantizer() - target).square().sum()
        loss.backward()
        losses.append(float(loss.detach()))
        optimizer.step()
        with torch.no_grad():
            quantizer.after_step()
    return losses


def check_form(quantizer, before):
    """The dense weight is the stored one, and that has the storage of before."""
    with torch.no_grad():
        dense, found = quantizer(), quantizer.stored()
    assert torch.equal(dense, found.dense())
    assert found.storage == before.storage
    assert found.values.dtype == torch.int8
    assert found.values.shape == before.values.shape
    assert found.scale.shape == before.scale.shape
    assert bool((found.scale > 0).all())
    assert int(found.values.abs().max()) <= top_code(before.storage.bits)
    if before.storage.bits == 1:
        assert bool((found.values != 0).all())
    assert (found.mask is None) == (before.mask is None)
    if found.mask is not None:
        assert int(found.mask.sum()) == before.storage.kept
        assert not bool(found.values[~found.mask].any())
        check_pattern(found)
    return found


def check_pattern(found):
    rows = found.mask.movedim(found.storage.axis, 0).flatten(1)
    whole = rows.shape[1] // 4 * 4
    units = rows[:, :whole].reshape(-1, 4).sum(dim=1)
    if found.storage.index in {"2:4", "block"}:
        assert bool(rows[:, whole:].all()), "what fills no unit stays"
    if found.storage.index == "2:4":
        assert bool((units == 2).all())
    elif found.storage.index == "block":
        assert set(units.tolist()) <= {0, 4}


def test_it_starts_at_the_codes(name, tensor):
    quantizer = QUANTIZERS[name](tensor, wanted_of(tensor))
    found = check_form(quantizer, tensor)
    if name == "sat":  # its largest codes start a little lower, where tanh is not flat yet
        assert (
            int((found.values.int() - tensor.values).abs().max()) <= 0.02 * 2**tensor.storage.bits
        )
    else:
        assert torch.equal(found.values, tensor.values)
        assert torch.equal(found.scale, tensor.scale)


def test_what_it_computes_with_is_what_it_stores_after_steps_too(name, tensor):
    quantizer = QUANTIZERS[name](tensor, wanted_of(tensor))
    target = 0.1 * torch.randn(tensor.values.shape, generator=torch.Generator().manual_seed(2))
    for number in range(4):
        pull_to(quantizer, target, steps=3, rate=0.1)
        with torch.no_grad():
            quantizer.rank(number / 4)
        check_form(quantizer, tensor)
        with torch.no_grad():
            quantizer.pull(0.3)
        check_form(quantizer, tensor)


def test_everything_learned_gets_a_gradient(name, tensor):
    quantizer = QUANTIZERS[name](tensor, wanted_of(tensor))
    learned = list(quantizer.learned())
    weights = torch.randn(tensor.values.shape, generator=torch.Generator().manual_seed(3))
    (quantizer() * weights).sum().backward()
    assert {id(x.parameter) for x in learned} == {id(p) for p in quantizer.parameters()}
    for each in learned:
        assert each.unit > 0
        assert bool(each.parameter.grad.any())
        assert bool(each.parameter.grad.isfinite().all())


def test_a_few_steps_lower_a_quadratic_loss(name, tensor):
    quantizer = QUANTIZERS[name](tensor, wanted_of(tensor))
    if name == "frozen":  # by its scales alone
        losses = pull_to(quantizer, 1.5 * tensor.dense(), steps=30)
    else:  # half of the signs are turned round: rows keep their size, and zeros their places
        draw = torch.Generator().manual_seed(7)
        signs = 1 - 2 * torch.randint(2, tensor.values.shape, generator=draw)
        losses = pull_to(quantizer, signs * tensor.dense(), steps=150)
    assert losses[-1] < 0.5 * losses[0]


def test_frozen_codes_stay(coded):
    tensor = coded(bits=3)
    quantizer = QUANTIZERS["frozen"](tensor, None)
    pull_to(quantizer, torch.randn(6, 10), steps=5)
    assert torch.equal(quantizer.stored().values, tensor.values)
    assert not torch.equal(quantizer.stored().scale, tensor.scale)


def test_a_state_comes_back_exactly(name, tensor):
    first = QUANTIZERS[name](tensor, wanted_of(tensor))
    target = 0.1 * torch.randn(tensor.values.shape, generator=torch.Generator().manual_seed(2))
    pull_to(first, target, steps=3)
    with torch.no_grad():
        first.rank(0.2)
    second = QUANTIZERS[name](tensor, wanted_of(tensor))
    second.load_state_dict({n: x.clone() for n, x in first.state_dict().items()})
    assert torch.equal(second(), first())
    one, other = first.stored(), second.stored()
    assert torch.equal(one.values, other.values)
    assert torch.equal(one.scale, other.scale)
    assert one.mask is None or torch.equal(one.mask, other.mask)
    # And it goes on alike.
    assert pull_to(first, target, steps=2) == pull_to(second, target, steps=2)
    assert torch.equal(second(), first())


def test_a_row_of_zeros_keeps_a_scale_above_zero(name, coded):
    tensor = coded(bits=3)
    values = tensor.values.clone()
    values[0] = 0
    tensor = replace(tensor, values=values)
    quantizer = QUANTIZERS[name](tensor, None)
    pull_to(quantizer, tensor.dense(), steps=2)
    check_form(quantizer, tensor)


def test_pulled_latents_come_nearer_to_their_codes(name, coded):
    tensor = coded(bits=4)
    quantizer = QUANTIZERS[name](tensor, wanted_of(tensor))
    before, codes = quantizer.state_dict(), quantizer.stored().values
    if name == "frozen":
        quantizer.pull(0.5)
        assert all(torch.equal(x, before[n]) for n, x in quantizer.state_dict().items())
        return
    first = quantizer.latent.detach().clone()
    with torch.no_grad():
        quantizer.pull(1.0)
        middle = quantizer.latent.detach().clone()
        quantizer.latent.copy_(first)
        quantizer.pull(0.25)
    assert torch.allclose(quantizer.latent, first + 0.25 * (middle - first), atol=1e-6)
    assert torch.equal(quantizer.stored().values, codes)
    if name != "sat":
        is_inside = first.abs() <= tensor.scale[:, None] * top_code(4)
        assert torch.allclose(middle[is_inside], tensor.dense()[is_inside], atol=1e-6)
