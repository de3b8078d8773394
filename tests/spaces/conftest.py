"""Helpers for tests that compare networks with their captures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from paredown.spaces.capture.capturing import Captured, as_inputs, capture
from paredown.spaces.graph.graph import run
from paredown.spaces.structure.model_map import ModelMap
from paredown.spaces.structure.reading import read_model_map


@pytest.fixture(scope="session")
def difference() -> Callable[[nn.Module, Captured, Any], float]:
    """Largest difference between a module's outputs and its capture's, relative to the largest."""

    def measure(module: nn.Module, captured: Captured, batch: Any) -> float:
        with torch.no_grad():
            wanted = module(**batch) if isinstance(batch, Mapping) else module(batch)
            given = run(captured.graph, captured.tensors, as_inputs(captured.graph, batch))
        pairs = zip(pytree.tree_leaves(wanted), given, strict=True)
        return max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)

    return measure


@pytest.fixture(scope="session")
def read() -> Callable[[nn.Module, Tensor], ModelMap]:
    """The model map of a module that is not in the zoo."""
    return lambda module, example: read_model_map(capture(module.eval(), example))
