"""The tests' networks and random candidates, for benchmarks that run over all of them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

_TESTS = Path(__file__).resolve().parents[2] / "tests"


def load_tests(name: str) -> ModuleType:
    """The module `tests/<name>.py`: "zoo" or "chain"."""
    spec = importlib.util.spec_from_file_location(f"paredown_{name}", _TESTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
