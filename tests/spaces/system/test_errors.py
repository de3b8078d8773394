"""The tree of errors: whatever a user can meet is a `ParedownError`, in all four packages."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

from paredown.spaces.system import ParedownError

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("spaces", "compressors", "hardware_models", "search")
STEERING = {
    "EvaluationTimeout": "ends an evaluation from a signal handler, past what a user's code catches",
    "MeasureError": "of a script that is copied to machines without paredown; a search records it",
    "SpaceExhausted": "ends the search, which did all that there is to do",
}
"""Exceptions outside the tree, and what they are for."""


def exceptions() -> Iterator[type[BaseException]]:
    """Every exception class that a module of ours defines."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
            module = importlib.import_module(f"paredown.{name.removesuffix('.__init__')}")
            for _, found in inspect.getmembers(module, inspect.isclass):
                if issubclass(found, BaseException) and found.__module__ == module.__name__:
                    yield found


def test_every_error_is_in_the_tree_but_those_that_steer_the_program() -> None:
    found = set(exceptions())
    assert {each.__name__ for each in found if not issubclass(each, ParedownError)} == {*STEERING}
    assert len(found) > 30


def test_errors_are_named_as_errors_and_no_name_is_used_twice() -> None:
    names = [each.__name__ for each in exceptions() if issubclass(each, ParedownError)]
    assert [name for name in names if not name.endswith("Error")] == []
    assert len(names) == len(set(names))


def test_an_error_of_ours_is_a_value_error() -> None:
    assert issubclass(ParedownError, ValueError), "who catches ValueError catches ours"
