"""docs/rooms.md against the rooms: what belongs in each, and what it offers."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "rooms.md"
PACKAGES = ("spaces", "compressors", "hardware_models", "search")
HEAD = """\
# Rooms

Each package is a set of rooms. A room's page here is its public face: import names from the room, as
`from paredown.spaces.graph import capture`, never from a file in it. `python tests/docs/test_rooms.py`
writes this page from the docstrings.
"""


def rooms() -> list[str]:
    """Rooms as paths, package by package, each with the rooms inside it behind."""
    return [
        module.name.removeprefix("paredown.").replace(".", "/")
        for package in PACKAGES
        for module in pkgutil.walk_packages([str(ROOT / package)], f"paredown.{package}.")
        if module.ispkg
    ]


def page() -> str:
    """The page as it must be."""
    parts = [HEAD]
    for package in PACKAGES:
        parts.append(f"## {package}\n")
        for room in [each for each in rooms() if each.startswith(f"{package}/")]:
            found = importlib.import_module(f"paredown.{room.replace('/', '.')}")
            parts.append(f"### {room}\n\n{inspect.cleandoc(found.__doc__ or '')}\n")
            rows = list(_rows(room))
            if rows:
                parts.append("\n".join(["| name | what it is |", "|---|---|", *rows, ""]))
    return "\n".join(parts)


def _rows(room: str) -> Iterator[str]:
    face = (ROOT / room / "__init__.pyi").read_text(encoding="utf-8")
    for node in ast.parse(face).body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield f"| `{alias.name}` | {_sentence(ROOT / room / f'{node.module}.py', alias.name)} |"


def _sentence(path: Path, name: str) -> str:
    """The first sentence of what is said of a name where it is defined."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node, following in zip(tree.body, [*tree.body[1:], None], strict=True):
        text = None
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            text = ast.get_docstring(node)
        elif name in _assigned(node) and isinstance(following, ast.Expr):
            value = following.value
            text = value.value if isinstance(value, ast.Constant) else None
        if text:
            return " ".join(str(text).split("\n\n")[0].split()).replace("|", "\\|")
    return ""


def _assigned(node: ast.stmt) -> set[str]:
    targets = getattr(node, "targets", [getattr(node, "target", None)])
    return {target.id for target in targets if isinstance(target, ast.Name)}


def test_the_page_says_what_the_rooms_offer() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


@pytest.mark.parametrize("room", rooms())
def test_every_name_of_a_room_is_there(room: str) -> None:
    found = importlib.import_module(f"paredown.{room.replace('/', '.')}")
    assert found.__doc__
    modules = {module.name for module in pkgutil.iter_modules(found.__path__)}
    assert modules.isdisjoint(found.__all__), "importing the module would hide the name"
    for name in found.__all__:
        assert getattr(found, name) is not None


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
