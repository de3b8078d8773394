"""What the benchmark of a character LSTM compares is what it says."""

from __future__ import annotations

import argparse
import importlib
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "training"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("character_lstm")


def test_blind_codes_are_the_closed_forms_of_their_papers(benchmark):
    w = torch.tensor([[0.1, -0.5, 0.9, -1.3]])
    assert benchmark.BLIND["BinaryConnect"](w).tolist() == [[1, -1, 1, -1]]
    assert torch.allclose(benchmark.BLIND["BWN"](w), 0.7 * torch.tensor([[1.0, -1, 1, -1]]))
    # 0.7 of the mean magnitude is 0.49: three weights are beyond it, of mean 0.9.
    assert torch.allclose(benchmark.BLIND["TWN"](w), 0.9 * torch.tensor([[0.0, -1, 1, -1]]))


def test_a_blind_weight_hands_its_gradient_on_and_is_clipped(benchmark):
    blind = benchmark.Blind(torch.tensor([[0.5, -3.0]]), benchmark.signs)
    (blind() * torch.tensor([[2.0, 5.0]])).sum().backward()
    assert blind.latent.grad.tolist() == [[2, 5]]
    blind.after_step()
    assert blind.latent.tolist() == [[0.5, -1]]


@pytest.mark.parametrize("scales", ["row", "gate"])
def test_all_start_alike_and_codes_have_as_many_values_as_their_bits(benchmark, scales):
    text = benchmark.Text("abcdefgh" * 4000)
    arguments = argparse.Namespace(steps=0, scales=scales)
    floats = benchmark.trained(lambda w: benchmark.Blind(w, lambda x: x), text, 1, arguments)
    coded = benchmark.trained(lambda w: benchmark.loss_aware(w, 1), text, 1, arguments)
    assert torch.equal(coded["hidden"].sign(), floats["hidden"].sign())
    rows = coded["hidden"].view(4 if scales == "gate" else 256, -1)
    assert all(len(row.unique()) == 2 for row in rows)
    assert torch.equal(coded["out"], floats["out"])


def test_weights_of_nothing_leave_the_entropy_of_the_alphabet(benchmark):
    text = benchmark.Text("abcdefgh" * 21000)
    weights = {n: torch.zeros_like(x) for n, x in benchmark.first_weights(8, 0).items()}
    assert benchmark.bits_a_character(weights, text) == pytest.approx(math.log2(8), rel=1e-5)
