"""Activations and powers with every kind of argument: ONNX Runtime gives what torch gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn


def image(size: int | tuple[int, int] = 9) -> Tensor:
    height, width = size if isinstance(size, tuple) else (size, size)
    return torch.randn(2, 4, height, width)


def _activated() -> Iterator[tuple[str, Callable[[Tensor], Any], Tensor]]:
    for beta, threshold in ((1, 20), (2, 20), (1, 0.5), (3, 1), (0.5, 16), (1, 17)):
        yield f"softplus {beta} {threshold}", nn.Softplus(beta, threshold), 8 * image()
    for low, high in ((None, 0.5), (-0.5, None), (-0.5, 0.5), (0, 1)):
        yield f"clamp {low} {high}", lambda x, a=low, b=high: x.clamp(a, b), image()
    for power in (2, 3, 0.5, -1, 0, 1, 2.5):
        yield f"power {power}", lambda x, p=power: (x.abs() + 0.1) ** p, image()
    yield "cube of negatives", lambda x: x**3, image()
    for slope in (0.01, -0.5, 2.0):
        yield f"leaky {slope}", nn.LeakyReLU(slope), image()
    yield "subtracted", lambda x: torch.rsub(x, 2) - (2 - x) / (x.abs() + 1), image()


@pytest.mark.parametrize("cases", [_activated])
def test_the_runtime_gives_what_torch_gives(cases: Any, check_as_torch: Any) -> None:
    check_as_torch(cases())
