"""Fixtures shared by every test: the zoo of small networks and their captures."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from paredown.compressors.layers.database import Database
from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.capture.capturing import Captured, as_inputs, capture
from paredown.spaces.structure.model_map import ModelMap
from paredown.spaces.structure.reading import read_model_map


def _load(name: str) -> ModuleType:
    # pytest's importlib mode has no package for tests, so the file is loaded by its path.
    module_name = f"paredown_tests_{name}"
    if module_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            module_name, Path(__file__).with_name(f"{name}.py")
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        spec.loader.exec_module(module)
    return sys.modules[module_name]


_ZOO_MODULE = _load("zoo")
_CHAIN_MODULE = _load("chain")


@functools.cache
def _captured(name: str) -> Captured:
    build, example = _ZOO_MODULE.ZOO[name]
    return capture(build(), example(1))


@functools.cache
def _mapped(name: str) -> ModelMap:
    return read_model_map(_captured(name))


@functools.cache
def _calibration(name: str) -> list[Tensor]:
    return as_inputs(_captured(name).graph, _ZOO_MODULE.ZOO[name][1](12))


@functools.cache
def _database(name: str) -> Database:
    return _CHAIN_MODULE.make_database(_captured(name), _mapped(name), _calibration(name))


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(1)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`zoo_name` runs a test on every zoo network, `cnn_name` on the convolutional ones."""
    if "zoo_name" in metafunc.fixturenames:
        metafunc.parametrize("zoo_name", list(_ZOO_MODULE.ZOO))
    if "cnn_name" in metafunc.fixturenames:
        metafunc.parametrize("cnn_name", list(_ZOO_MODULE.CNNS))


@pytest.fixture(scope="session")
def zoo() -> dict[str, tuple[Callable[[], Any], Callable[[int], Any]]]:
    """Name -> (module factory, example factory by batch size)."""
    return _ZOO_MODULE.ZOO


@pytest.fixture(scope="session")
def captured() -> Callable[[str], Captured]:
    """The capture of a zoo network at batch size 1, made once per session; do not change it."""
    return _captured


@pytest.fixture(scope="session")
def mapped() -> Callable[[str], ModelMap]:
    """The verified model map of a zoo network, made once per session."""
    return _mapped


@pytest.fixture(scope="session")
def calibration() -> Callable[[str], list[Tensor]]:
    """Twelve inputs of a zoo network, in the order of its graph."""
    return _calibration


@pytest.fixture(scope="session")
def database() -> Callable[[str], Database]:
    """The database of a zoo network, calibrated on `calibration`, made once per session."""
    return _database


@pytest.fixture(scope="session")
def random_candidate() -> Callable[..., Candidate]:
    """(model map, seed, activation bits or None for either) -> a canonical random candidate."""
    return _CHAIN_MODULE.random_candidate
