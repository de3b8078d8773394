"""The README's tree of rooms against the rooms that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("search", "spaces", "compressors", "hardware_models")
_LINE = re.compile(r"(?P<indent> *)(?P<name>\S+?)(?P<slash>/?)(?: {1,}(?P<text>\S.*))?")


def _read_tree(readme: str) -> list[tuple[str, str]]:
    """Paths of the README's tree with what stands beside them; folders end in a slash."""
    block = readme.split("## The code", 1)[1].split("```text\n", 1)[1].split("```", 1)[0]
    folders: list[str] = []
    found: list[tuple[str, str]] = []
    for line in block.splitlines():
        parts = _LINE.fullmatch(line)
        assert parts is not None, f"not a line of a tree: {line!r}"
        depth = len(parts["indent"]) // 2
        path = "/".join((*folders[:depth], parts["name"]))
        if parts["slash"]:
            folders[depth:] = [parts["name"]]
        found.append((path + parts["slash"], parts["text"] or ""))
    return found


def _rooms_on_disk() -> set[str]:
    return {
        f"{path.parent.relative_to(ROOT).as_posix()}/"
        for package in PACKAGES
        for path in (ROOT / package).rglob("__init__.py")
    }


@pytest.fixture(scope="module")
def tree() -> list[tuple[str, str]]:
    return _read_tree((ROOT / "README.md").read_text(encoding="utf-8"))


def test_the_readme_lists_every_room_of_the_packages(tree: list[tuple[str, str]]) -> None:
    listed = {path for path, _ in tree}
    assert sorted(_rooms_on_disk() - listed) == []


def test_the_readme_lists_no_room_that_does_not_exist(tree: list[tuple[str, str]]) -> None:
    assert [path for path, _ in tree if not (ROOT / path).exists()] == []


def test_every_room_of_the_readme_stands_there_once_with_a_word_on_it(
    tree: list[tuple[str, str]],
) -> None:
    rooms = [path for path, _ in tree]
    assert len(rooms) == len(set(rooms))
    assert [path for path, text in tree if not text] == []


def test_a_tree_is_read_with_its_folders() -> None:
    text = "## The code\n\n```text\na/      A\n  b.py  B\n  c/\n    d.py  D\ne/\n  f.py\n```\n"
    assert _read_tree(text) == [
        ("a/", "A"),
        ("a/b.py", "B"),
        ("a/c/", ""),
        ("a/c/d.py", "D"),
        ("e/", ""),
        ("e/f.py", ""),
    ]


@pytest.mark.parametrize(
    "page",
    ["README.md", *(str(p.relative_to(ROOT)) for p in sorted((ROOT / "docs").glob("*.md")))],
)
def test_links_between_pages_lead_to_files(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = re.findall(r"(?<!!)\[[^\]]*\]\((?!https?:)([^)#]+)", text)
    missing = [t for t in targets if not ((ROOT / page).parent / t).exists()]
    assert missing == []
