"""The public names of packages are what they say, whatever was imported before."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

PACKAGES = (
    "paredown.search",
    "paredown.spaces",
    "paredown.compressors",
    "paredown.hardware_models",
)


@pytest.mark.parametrize("name", PACKAGES)
def test_no_public_name_is_also_that_of_a_module(name: str) -> None:
    # Importing the module would put it in place of what the package offers under its name.
    package = importlib.import_module(name)
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert modules.isdisjoint(getattr(package, "__all__", ()))


@pytest.mark.parametrize("statement", ["from paredown.search import load, run", "import torch"])
def test_run_and_load_are_functions_after_every_module_was_imported(statement: str) -> None:
    code = (
        f"{statement}\n"
        "import importlib, pkgutil, paredown.search as search\n"
        "for module in pkgutil.walk_packages(search.__path__, 'paredown.search.'):\n"
        "    importlib.import_module(module.name)\n"
        "from paredown.search import load, run\n"
        "print(load.__module__, run.__module__, callable(load) and callable(run))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    expected = "paredown.compressors.bundle.loading paredown.search.running.whole_search True"
    assert done.stdout.strip() == expected


def test_a_name_that_is_not_offered_is_an_attribute_error() -> None:
    search = importlib.import_module("paredown.search")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = search.nothing
