"""Shared by the solver tests: correlated calibration inputs and captured single layers."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paredown.spaces.capture.capturing import Captured, capture
from paredown.spaces.structure.layers import read_layers
from paredown.spaces.structure.model_map import Layer

Problem = tuple[Tensor, Tensor]


def _make_problem(seed: int, rows: int, columns: int, samples: int) -> Problem:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(columns, columns, generator=generator, dtype=torch.float64)
    inputs = torch.relu(torch.randn(samples, columns, generator=generator).double() @ mix)
    weight = torch.randn(rows, columns, generator=generator)
    return weight, inputs.t() @ inputs / samples


@pytest.fixture(scope="session")
def make_problem() -> Callable[[int, int, int, int], Problem]:
    """(seed, rows, columns, samples) -> weight (R, K) float32 and Gram (K, K) of ReLU inputs."""
    return _make_problem


@pytest.fixture(scope="session")
def capture_layers() -> Callable[[nn.Module, Any], tuple[Captured, tuple[Layer, ...]]]:
    """(module, example) -> its capture and its layers, in execution order."""

    def read(module: nn.Module, example: Any) -> tuple[Captured, tuple[Layer, ...]]:
        captured = capture(module, example)
        return captured, read_layers(captured)[0]

    return read


def _by_hand() -> ModuleType:
    # pytest's importlib mode has no package for tests, so the file is loaded by its path.
    path = Path(__file__).with_name("by_hand.py")
    spec = importlib.util.spec_from_file_location("paredown_tests_by_hand", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


_HAND = _by_hand()
_seeded, identity, with_weights, with_codes, run_onnx = (
    _HAND._seeded,
    _HAND.identity,
    _HAND.with_weights,
    _HAND.with_codes,
    _HAND.run_onnx,
)
resnet, resnet_model, resnet20_model = _HAND.resnet, _HAND.resnet_model, _HAND.resnet20_model
