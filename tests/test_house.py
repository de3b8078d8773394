"""The house: imports in one direction, rooms without circles, small files, all documented and tested."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
USES = {
    "spaces": set(),
    "compressors": {"spaces"},
    "hardware_models": {"spaces"},
    "search": {"spaces", "compressors", "hardware_models"},
}
"""Each package with those that it may import."""
LONGEST_FILE, LARGEST_ROOM, MOST_ROOMS = 300, 16, 12
TESTED_ELSEWHERE = {
    "search/running/engines/ray_trials": "test_engine_ray_alone.py, and test_engine_ray.py on a cluster",
    "spaces/system/json_values": "a type alone, which mypy checks",
}
"""Modules without a test of their name, each with where it is tested instead and why."""
MOST_TESTED_ELSEWHERE = 0.05
"""Share of all modules."""


@cache
def trees() -> dict[str, ast.Module]:
    """Path of each module of the four packages, without its ending, to its syntax tree."""
    return {
        path.relative_to(ROOT).with_suffix("").as_posix(): ast.parse(path.read_text("utf-8"))
        for package in USES
        for path in sorted((ROOT / package).rglob("*.py"))
    }


def room_of(module: str) -> str:
    return module.rpartition("/")[0]


@cache
def imports() -> dict[str, set[str]]:
    """Each module with the modules of ours that it imports, at its top or inside a function."""
    return {module: set(_imported(tree)) - {module} for module, tree in trees().items()}


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("paredown."):
            base = str(node.module).removeprefix("paredown.").replace(".", "/")
            for name in (f"{base}/{alias.name}" for alias in node.names):
                yield next(n for n in (name, base, f"{base}/__init__") if n in trees())


def circles(arrows: Mapping[str, set[str]]) -> list[list[str]]:
    """Sets of nodes that reach each other: whatever is left when sources and sinks are taken away."""
    left = {node: set(targets) for node, targets in arrows.items()}
    while True:
        targeted = {target for targets in left.values() for target in targets}
        ends = {node for node, targets in left.items() if not targets & left.keys()}
        ends |= left.keys() - targeted
        if not ends:
            return [sorted(left)] if left else []
        left = {n: {t for t in ts if t in left and t not in ends} for n, ts in left.items()}
        left = {n: ts for n, ts in left.items() if n not in ends}


def test_circles_are_found() -> None:
    line = {"a": {"b"}, "b": {"c"}, "c": set()}
    assert circles(line) == []
    assert circles({**line, "c": {"b"}}) == [["b", "c"]]


def test_packages_import_in_one_direction() -> None:
    wrong = [
        f"{module} -> {target}"
        for module, targets in imports().items()
        for target in targets
        if (a := module.split("/")[0]) != (b := target.split("/")[0]) and b not in USES[a]
    ]
    assert wrong == []


def test_no_circle_of_modules() -> None:
    assert circles(imports()) == []


def test_no_circle_of_rooms() -> None:
    rooms: dict[str, set[str]] = defaultdict(set)
    for module, targets in imports().items():
        rooms[room_of(module)] |= {room_of(t) for t in targets} - {room_of(module)}
    assert circles(rooms) == []


def test_no_room_is_a_corridor() -> None:
    sizes = Counter(room_of(module) for module in trees())
    assert {room: size for room, size in sizes.items() if size > LARGEST_ROOM} == {}
    # A room inside another is found by way of that one, and has none inside itself.
    assert max(room.count("/") for room in sizes) <= 2
    assert sum(room.startswith("search/") and room.count("/") == 1 for room in sizes) <= MOST_ROOMS
    assert [m for m in trees() if m.count("/") == 1 and not m.endswith("__init__")] == []


def test_no_file_is_too_long() -> None:
    lengths = {m: (ROOT / f"{m}.py").read_text("utf-8").count("\n") for m in trees()}
    assert {m: length for m, length in lengths.items() if length > LONGEST_FILE} == {}


def _undocumented(module: str, tree: ast.AST, inside: str = "") -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if node.name.startswith("_"):
                continue
            if not ast.get_docstring(node):
                yield f"{module}.py:{node.lineno} {inside}{node.name}"
            if isinstance(node, ast.ClassDef):
                yield from _undocumented(module, node, f"{node.name}.")


@pytest.mark.parametrize("package", USES)
def test_every_public_name_is_documented(package: str) -> None:
    mine = {module: tree for module, tree in trees().items() if module.startswith(package)}
    assert [module for module, tree in mine.items() if not ast.get_docstring(tree)] == []
    assert [name for module, tree in mine.items() for name in _undocumented(module, tree)] == []


def test_tests_lie_in_the_room_of_what_they_test() -> None:
    rooms: dict[str, set[str]] = defaultdict(set)
    for module in trees():
        rooms[module.rpartition("/")[2]].add(room_of(module))
    tests = [path.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")]
    astray = [
        path.as_posix()
        for path in tests
        if (found := rooms.get(path.stem.removeprefix("test_")))
        and not any(path.parent.as_posix().startswith(room) for room in found)
    ]
    assert astray == []


def test_every_module_has_a_test_of_its_name_in_its_room() -> None:
    modules = [module for module in trees() if not module.endswith("/__init__")]
    # In a folder below its room where several files test one module.
    tested = {
        f"{parent.as_posix()}/{path.stem.removeprefix('test_')}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for parent in path.relative_to(ROOT / "tests").parents
    }
    assert {module for module in modules if module not in tested} == set(TESTED_ELSEWHERE)
    assert len(TESTED_ELSEWHERE) <= MOST_TESTED_ELSEWHERE * len(modules)
