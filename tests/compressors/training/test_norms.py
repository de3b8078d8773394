"""Live norms are the identity at first, learn with the batch's statistics, and fold into scales."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from paredown.compressors.models.assembling import assemble
from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.training.norms import LiveNorm, LiveNorms, check_norms
from paredown.compressors.training.progress import Average
from paredown.compressors.training.quantizers.table import QUANTIZERS
from paredown.compressors.training.trainable import Trainable, View
from paredown.compressors.training.trainer import TrainingError, check_trained

LIVE = View(norms="live")


@pytest.fixture
def model_of(mapped, database, random_candidate) -> Callable[..., CompressedModel]:
    """(zoo network, seed, activation bits) -> a random candidate of it, assembled."""

    def make(name: str, seed: int, activation_bits: int | None) -> CompressedModel:
        candidate = random_candidate(mapped(name), seed, activation_bits)
        return assemble(candidate, database(name))

    return make


def moved(trainable: Trainable, inputs, steps: int = 4) -> None:
    """Steps of gradient descent, each tensor by a share of its size."""
    for _ in range(steps):
        trainable.zero_grad()
        sum(x.float().square().mean() for x in trainable(inputs)).backward()
        with torch.no_grad():
            for each in trainable.learned():
                if each.parameter.grad is not None:
                    each.parameter.sub_(0.03 * each.unit * each.parameter.grad.sign())
        trainable.after_step()


def far(found, wanted) -> float:
    """The largest difference, as a share of the largest value wanted."""
    with torch.no_grad():
        return max(
            float((x.double() - y.double()).abs().max() / y.double().abs().max().clamp_min(1e-9))
            for x, y in zip(found, wanted, strict=True)
        )


def normed(model: CompressedModel) -> set[str]:
    """The biases whose place norms take."""
    return set(LiveNorms(model, "live").biases)


class Mixed(nn.Module):
    """Convolutions both ways and linear layers, one of them applied twice and one without a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 4, 3, 2, 1), nn.ConvTranspose2d(4, 4, 2, 2)
        self.twice, self.bare = nn.Linear(6, 6), nn.Linear(6, 6, bias=False)
        self.inner, self.last = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        y = torch.relu(self.up(torch.relu(self.down(x))))
        y = self.bare(self.twice(torch.relu(self.twice(y))))
        return self.last(torch.relu(self.inner(y)))


@pytest.fixture
def mixed(identity, with_weights) -> CompressedModel:
    """`Mixed` at three bits."""
    return with_weights(identity(Mixed(), torch.randn(2, 3, 6, 6)), 3, "int4")


@pytest.mark.parametrize(("shape", "dim"), [((16, 5, 4, 3), 1), ((16, 7, 5), -1), ((16, 5), -1)])
def test_a_norm_is_that_of_the_formula(shape, dim):
    norm = LiveNorm(torch.randn(5), dim)
    norm.start(torch.randn(5), torch.rand(5) + 0.1)
    with torch.no_grad():
        norm.factor.normal_(), norm.shift.normal_()
    first = norm.get_buffer("mean").clone(), norm.get_buffer("variance").clone()
    gain = norm.get_buffer("first_deviation") * norm.factor.exp()
    x = torch.randn(shape)
    rows = x.movedim(dim, -1).reshape(-1, 5)
    mean, variance = rows.mean(dim=0), rows.var(dim=0)
    centred = (rows - mean) / rows.var(dim=0, correction=0).sqrt() * gain + norm.shift
    wanted = centred.view(x.movedim(dim, -1).shape).movedim(-1, dim)
    assert torch.allclose(norm(x), wanted, atol=1e-5)
    for name, before, now in zip(("mean", "variance"), first, (mean, variance), strict=True):
        assert torch.allclose(norm.get_buffer(name), 0.9 * before + 0.1 * now, atol=1e-5)
    ratio, bias = norm.eval().folded()
    folded = rows * ratio + bias
    assert torch.allclose(norm(x).movedim(dim, -1).reshape(-1, 5), folded, atol=1e-5)


def test_a_row_alone_is_normalised_by_running_statistics():
    norm = LiveNorm(torch.zeros(3), -1)
    x = torch.randn(1, 3)
    assert torch.allclose(norm(x), x, atol=1e-6)
    assert torch.equal(norm.get_buffer("mean"), torch.zeros(3))


def test_norms_are_where_they_can_be_folded(mixed, identity):
    assert normed(mixed) == {"down.bias", "up.bias", "inner.bias"}
    assert not LiveNorms(mixed, "folded").biases
    plain = identity(Mixed(), torch.randn(2, 3, 6, 6))
    assert normed(plain) == set(), "floats have no scale"


def test_a_network_without_a_place_for_them_is_refused(identity):
    check_norms("live", identity(Mixed(), torch.randn(2, 3, 6, 6)).blueprint.graph)
    single = identity(nn.Linear(3, 2), torch.zeros(1, 3)).blueprint.graph
    check_norms("folded", single)
    with pytest.raises(
        TrainingError, match=r"recovery\.recipe\.norms must be folded .* got live; l"
    ):
        check_norms("live", single)


def test_groups_of_scales_keep_what_they_have(mixed, coded):
    grouped = coded(3, "none", (6, 6), group_size=3)
    stored = {**mixed.stored, "inner.weight": grouped}
    storage = {**mixed.blueprint.storage, "inner.weight": grouped.storage}
    other = replace(mixed, blueprint=replace(mixed.blueprint, storage=storage), stored=stored)
    assert normed(other) == {"down.bias", "up.bias"}


def test_a_view_starts_as_its_model(zoo_name, model_of, calibration):
    model, inputs = model_of(zoo_name, 1, 32), calibration(zoo_name)
    trainable = Trainable(model, LIVE).eval()
    assert far(trainable(inputs), model(inputs)) < 1e-4
    trainable.observe([inputs])
    assert far(trainable(inputs), model(inputs)) < 1e-4


def test_they_start_with_the_statistics_of_all_batches(mixed):
    batches = [[torch.randn(4, 3, 6, 6)] for _ in range(3)]
    trainable = Trainable(mixed, LIVE)
    trainable.observe(batches)
    seen = []
    with torch.no_grad():
        for inputs in batches:
            mixed(inputs, after=lambda n, _, x: seen.append((n.op, x)) or x)
    whole = torch.cat([x for op, x in seen if "conv2d" in op]).movedim(1, 0).flatten(1)
    state = trainable.state_dict()
    wanted = whole.mean(dim=1) - mixed.stored["down.bias"].values
    assert torch.allclose(state["norms.0.mean"], wanted, atol=1e-5)
    assert torch.allclose(state["norms.0.variance"], whole.var(dim=1, correction=0), atol=1e-5)
    with torch.no_grad():
        normal = torch.cat([trainable(inputs)[0] for inputs in batches[:1]])
    assert far([normal], mixed(batches[0])) < 1, "near the identity on such batches"


def check_frozen(model: CompressedModel, inputs, quantizer: str) -> None:
    """Training of a view ends in a model that computes what it does, with its quantisers' codes."""
    trainable = Trainable(model, View(quantizer=quantizer, norms="live"))
    trainable.observe([inputs])
    moved(trainable, inputs)
    frozen = trainable.eval().freeze()
    check_trained("test", model, frozen)
    assert far(trainable(inputs), frozen(inputs)) < 1e-4
    plain = {n: q.stored() for n, q in trainable._quantizers.items()}
    assert all(torch.equal(frozen.stored[n].values, x.values) for n, x in plain.items())
    changed = {n for n, x in plain.items() if not torch.equal(frozen.stored[n].scale, x.scale)}
    biases = normed(model)
    weights = {x.weight for x in model.blueprint.operators if x.bias in biases}
    assert changed <= weights, "their scales alone took the norms up"
    assert bool(changed) == bool(weights)


def test_what_was_trained_is_what_is_frozen(zoo_name, model_of, calibration):
    check_frozen(model_of(zoo_name, 1, 32), calibration(zoo_name), "lsq")


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_every_quantiser_bears_them(mixed, quantizer):
    check_frozen(mixed, [torch.randn(8, 3, 6, 6)], quantizer)


def test_beside_8_bit_activations_too(model_of, calibration):
    model, inputs = model_of("resnet_a", 1, 8), calibration("resnet_a")
    assert normed(model)
    trainable = Trainable(model, LIVE)
    trainable.observe([inputs])
    assert far(trainable.eval()(inputs), model(inputs)) < 0.05, "but for codes that tip"
    moved(trainable.train(), inputs)
    frozen = trainable.eval().freeze()
    check_trained("test", model, frozen)
    # Biases are rounded to their units as they are frozen.
    assert far(trainable(inputs), frozen(inputs)) < 0.05


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_all_that_learns_has_a_gradient(mixed, precision):
    trainable = Trainable(mixed, LIVE)
    inputs = [torch.randn(8, 3, 6, 6)]
    trainable.observe([inputs])
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        (outputs,) = trainable(inputs)
    outputs.float().square().mean().backward()
    learned = [each.parameter for each in trainable.learned()]
    assert {id(x) for x in learned} == {id(x) for x in trainable.parameters() if x.numel()}
    for parameter in learned:
        assert parameter.grad is not None
        assert bool(parameter.grad.isfinite().all())
    norm = dict(trainable.norms.named_parameters())
    assert all(float(x.grad.abs().max()) > 0 for x in norm.values())


def test_a_state_comes_back(mixed):
    inputs = [torch.randn(8, 3, 6, 6)]
    first = Trainable(mixed, LIVE)
    first.observe([inputs])
    moved(first, inputs)
    frozen = first.freeze()
    # As on the next rung: from the model that was trained, whose scales and biases are others.
    second = Trainable(frozen, LIVE)
    second.load_state_dict(first.state_dict())
    again = second.freeze()
    for name, tensor in frozen.stored.items():
        assert torch.equal(again.stored[name].dense(), tensor.dense()), name


def test_averages_are_of_statistics_too(mixed):
    inputs = [torch.randn(8, 3, 6, 6)]
    trainable = Trainable(mixed, LIVE)
    trainable.observe([inputs])
    average = Average(trainable, decay=0.5)
    before = trainable.state_dict()["norms.0.mean"].clone()
    moved(trainable, [inputs[0] + 3], steps=1)
    after = trainable.state_dict()["norms.0.mean"].clone()
    average.add(100)
    with average.applied():
        inside = trainable.state_dict()["norms.0.mean"].clone()
    assert not torch.allclose(before, after)
    assert torch.allclose(inside, (before + after) / 2)
    assert torch.equal(trainable.state_dict()["norms.0.mean"], after)
