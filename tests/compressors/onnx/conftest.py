"""Many functions of one input through ONNX Runtime at once, compared with torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

Cases = Iterable[tuple[str, Callable[[Tensor], Any], Tensor]]


class Of(nn.Module):
    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


class All(nn.Module):
    """Many functions of one input: traced and run once, which is what takes the time."""

    def __init__(self, functions: list[Any]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(f if isinstance(f, nn.Module) else Of(f) for f in functions)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(part(x) for part in self.parts)


@pytest.fixture
def of() -> Callable[[Callable[[Tensor], Any]], nn.Module]:
    """A module from a function of its input."""
    return Of


@pytest.fixture
def together() -> Callable[[list[Any]], nn.Module]:
    """A module from many functions of its input."""
    return All


@pytest.fixture
def check_as_torch(identity: Any, run_onnx: Any) -> Callable[[Cases], None]:
    """Runs (name, function, input) and fails where ONNX Runtime gives something else than torch."""

    def check(cases: Cases) -> None:
        cases = list(cases)
        for shape in {x.shape for _, _, x in cases}:
            names = [name for name, _, x in cases if x.shape == shape]
            module = All([f for _, f, x in cases if x.shape == shape]).eval()
            x = 4 * torch.randn(shape)
            with torch.no_grad():
                wanted = module(x)
            found, _ = run_onnx(identity(module, x), x)
            for name, ours, theirs in zip(names, wanted, found, strict=True):
                torch.testing.assert_close(
                    theirs, ours, rtol=1e-4, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
                )

    return check
