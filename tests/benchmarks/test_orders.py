"""The orders of the benchmark end at one size, and zeros that are said to stay do."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch

from paredown.compressors.storage import StoredTensor
from paredown.spaces.candidates import Storage

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "training"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("orders")


def test_all_orders_end_with_the_same_bits_and_zeros(benchmark):
    ends = [stages[-1].choice for stages in benchmark.orders(4, 0.6).values()]
    assert {(end.weight_bits, end.zeros.share) for end in ends} == {(4, 0.6)}
    first = {name: s[0].choice for name, s in benchmark.orders(4, 0.6).items() if len(s) == 2}
    assert first["prune, then quantise"].weight_bits == 32
    assert first["quantise, then prune"].zeros.share == 0


@pytest.mark.parametrize("name", ["EXCHANGED", "STAYING"])
def test_zeros_that_stay_are_not_exchanged(benchmark, name):
    kinds = {benchmark.EXCHANGED: benchmark.Lsq, benchmark.STAYING: benchmark.Staying}
    storage = Storage(shape=(1, 4), kept=2, bits=4, index="bitmap")
    mask = torch.tensor([[True, True, False, False]])
    values = torch.tensor([[7, 1, 0, 0]], dtype=torch.int8)
    tensor = StoredTensor(storage=storage, values=values, scale=torch.ones(1, 1), mask=mask)
    quantizer = kinds[getattr(benchmark, name)](tensor)
    with torch.no_grad():
        quantizer.latent.copy_(torch.tensor([[7.0, 1.0, 0.0, 5.0]]))
    quantizer.rank(0.05)
    is_exchanged = bool(quantizer.support.mask[0, 3])
    assert is_exchanged == (name == "EXCHANGED")
