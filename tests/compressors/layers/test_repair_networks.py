"""Repair on networks without batch norms: it restores what held-out images get, in either form."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paredown.compressors.layers import solution
from paredown.compressors.layers.database import Database
from paredown.compressors.layers.repair import Moments, repair_rows
from paredown.compressors.models.assembling import assemble, needs_refit, settle
from paredown.compressors.models.refit import DenseOutputs
from paredown.compressors.statistics.drawn_labels import summed_cross_entropy
from paredown.compressors.statistics.layer_statistics import collect_statistics
from paredown.compressors.storage.compressed import CompressedModel
from paredown.search.tasks.digits import digits_split
from paredown.spaces.candidates.candidate import Candidate, LayerChoice
from paredown.spaces.candidates.zeros import Zeros
from paredown.spaces.capture.capturing import capture
from paredown.spaces.structure.reading import read_model_map

STEPS = 150
CALIBRATION = 256


class _PreNormBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        weights = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(dim=-1)
        x = x + self.proj(weights @ v)
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class _Transformer(nn.Module):
    """A vision transformer on 16 patches of 2 x 2, layer norms throughout."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Linear(4, width)
        self.place = nn.Parameter(0.1 * torch.randn(1, 16, width))
        self.blocks = nn.ModuleList([_PreNormBlock(width) for _ in range(2)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        patches = x.reshape(-1, 4, 2, 4, 2).permute(0, 1, 3, 2, 4).reshape(-1, 16, 4)
        x = self.stem(patches) + self.place
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


class _NormFree(nn.Module):
    """A residual network without any normalisation."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, stride=2)
        self.conv3 = nn.Conv2d(width, width, 3, padding=1)
        self.conv4 = nn.Conv2d(width, 2 * width, 3, padding=1, stride=2)
        self.head = nn.Linear(8 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv2(F.relu(self.conv1(x))))
        x = x + F.relu(self.conv3(x))
        return self.head(F.relu(self.conv4(x)).flatten(1))


NETWORKS: dict[str, Callable[[], nn.Module]] = {"layer norms": _Transformer, "no norms": _NormFree}


class _Bench:
    """A trained network, its statistics, and held-out images."""

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        train, test = digits_split("train", 0), digits_split("test", 0)
        images, labels = train.prepare(train.inputs)[0], train.targets
        assert isinstance(labels, Tensor)
        net = _trained(make, images, labels)
        captured = capture(net, images[:1])
        self.tensors, self.model_map = captured.tensors, read_model_map(captured)
        self.calibration = [images[:CALIBRATION]]
        self.statistics = collect_statistics(
            captured.graph,
            captured.tensors,
            self.model_map.layers,
            [self.calibration],
            loss=summed_cross_entropy,
        )
        self.held_out = test.prepare(test.inputs)[0]
        with torch.no_grad():
            self.wanted = net(self.held_out).log_softmax(1)

    def database(self) -> Database:
        return Database(self.model_map, self.tensors, self.statistics, {})

    def drift(self, model: CompressedModel) -> float:
        """Mean Kullback-Leibler divergence from the dense answers on held-out images."""
        with torch.no_grad():
            given = model([self.held_out])[0].log_softmax(1)
        return float((self.wanted.exp() * (self.wanted - given)).sum(1).mean())

    def candidate(self, choice: LayerChoice) -> Candidate:
        return Candidate.of(layers={layer.name: choice for layer in self.model_map.layers[1:]})


def _trained(make: Callable[[], nn.Module], images: Tensor, labels: Tensor) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = make()
        optimizer = torch.optim.Adam(net.parameters(), 3e-3)
        for _ in range(STEPS):
            rows = torch.randint(len(images), (64,))
            optimizer.zero_grad()
            F.cross_entropy(net(images[rows]), labels[rows]).backward()
            optimizer.step()
    return net.eval()


@functools.cache
def _bench(name: str) -> _Bench:
    return _Bench(NETWORKS[name])


def _unrepaired(
    dense: Moments, found: Moments, bias: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    return torch.ones(len(found[0])), bias


def _bias_alone(
    dense: Moments, found: Moments, bias: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Bias correction: the mean of the output error, taken by the bias."""
    assert bias is not None
    return torch.ones(len(found[0])), (bias + dense[0] - found[0]).float()


HARSH = {
    "2 bits": LayerChoice(weight_bits=2, method="gptq"),
    "60 % zeros": LayerChoice(zeros=Zeros(0.6, "element"), method="rtn"),
}
MILD = {
    "3 bits": LayerChoice(weight_bits=3, method="gptq"),
    "3 bits, nearest": LayerChoice(weight_bits=3, method="rtn"),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("label", HARSH)
def test_harsh_choices_are_solved_again_which_restores_held_out_answers(
    name: str, label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = _bench(name)
    candidate = bench.candidate(HARSH[label])
    assert needs_refit(candidate)
    database = bench.database()
    model = assemble(candidate, database)
    settled = settle(model, candidate, database, DenseOutputs(database, bench.calibration))
    monkeypatch.setattr(solution, "repair_rows", _unrepaired)
    plain = assemble(candidate, bench.database())
    assert bench.drift(settled) < 0.7 * bench.drift(plain)


@pytest.mark.parametrize("name", NETWORKS)
def test_mild_choices_have_moments_restored_which_beats_nothing_and_the_bias_alone(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = _bench(name)
    drifts = {}
    for repair in (_unrepaired, _bias_alone, repair_rows):
        monkeypatch.setattr(solution, "repair_rows", repair)
        models = [assemble(bench.candidate(choice), bench.database()) for choice in MILD.values()]
        drifts[repair] = sum(bench.drift(model) for model in models)
    assert not any(needs_refit(bench.candidate(choice)) for choice in MILD.values())
    assert drifts[repair_rows] < drifts[_unrepaired]
    assert drifts[repair_rows] < drifts[_bias_alone]
