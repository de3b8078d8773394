"""Shared by the solver tests: correlated calibration inputs and captured single layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paredown.spaces.capture import Captured, capture
from paredown.spaces.layers import read_layers
from paredown.spaces.model_map import Layer

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
