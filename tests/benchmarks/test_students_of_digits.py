"""What the benchmark of ternary and distilled digits compares is what it says."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "training"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("digits")


def test_curvature_of_a_linear_classifier_is_the_root_of_its_fisher_diagonal(benchmark):
    torch.manual_seed(0)
    net = nn.Linear(3, 10)
    x = torch.randn(100, 3)
    p = net(x).detach().softmax(1)
    # The gradient by a weight is (p - 1[label]) x; its mean square over labels is p (1 - p) x^2.
    wanted = ((p * (1 - p)).t() @ x.square() / len(x)).sqrt()
    found = benchmark.curvatures(net, ["weight"], x)["weight"]
    assert torch.allclose(found, wanted, rtol=1e-4)


def test_no_image_is_both_trained_on_and_counted(benchmark):
    seen, unseen = benchmark.rows(3)
    assert (len(seen), len(unseen)) == (1200, 597)
    every = torch.cat([seen.inputs[0], unseen.inputs[0]]).flatten(1)
    alike = len(every) - len(every.unique(dim=0))
    from sklearn.datasets import load_digits

    whole = torch.from_numpy(load_digits().data)
    assert alike == len(whole) - len(whole.unique(dim=0))


def test_ternary_weights_have_one_scale_and_the_network_keeps_its_own(benchmark):
    net = benchmark.mlp()
    known = {"1.weight": torch.ones(64, 64)}
    before = net[1].weight.detach().clone()
    found = benchmark.ternary(net, benchmark.METHODS["TWN"], known)
    assert len(found[1].weight.unique()) == 3
    assert torch.equal(net[1].weight, before)
    assert torch.equal(found[4].weight, net[4].weight)
