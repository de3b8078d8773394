"""The README's tree of rooms against those that exist, and links between pages against files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("search", "spaces", "compressors", "hardware_models")
PAGES = ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]


def _read_tree(readme: str) -> list[str]:
    """Rooms of the README's tree as paths, in its order: a line names a package, the next its rooms."""
    block = readme.split("## The code", 1)[1].split("```text\n", 1)[1].split("```", 1)[0]
    found: list[str] = []
    package = ""
    for line in block.splitlines():
        if line.startswith(" "):
            found += [f"{package}/{room}" for room in line.split()]
        else:
            package = line.split("/")[0]
    return found


def test_the_readme_lists_every_room_once_and_no_other() -> None:
    listed = _read_tree((ROOT / "README.md").read_text(encoding="utf-8"))
    rooms = [
        path.parent.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).glob("*/__init__.py")
    ]
    assert sorted(listed) == sorted(rooms)


def test_a_tree_is_read_with_its_packages() -> None:
    text = "## The code\n\n```text\na/   of a\n    b c\nd/   of d\n    e\n    f\n```\n"
    assert _read_tree(text) == ["a/b", "a/c", "d/e", "d/f"]


def test_the_readme_fits_a_screen_and_a_half() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 100


@pytest.mark.parametrize("page", sorted(PAGES))
def test_links_between_pages_and_to_pictures_lead_to_files(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = re.findall(r"\[[^\]]*\]\((?!https?:)([^)#]+)", text)
    missing = [t for t in targets if not ((ROOT / page).parent / t).exists()]
    assert missing == []


@pytest.mark.parametrize("page", sorted(PAGES))
def test_links_to_headings_lead_to_headings(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target, heading in re.findall(r"\[[^\]]*\]\((?!https?:)([^)#]*)#([^)]+)\)", text):
        to = (ROOT / page).parent / target if target else ROOT / page
        assert heading in _headings(to.read_text(encoding="utf-8")), f"{page}: {target}#{heading}"


def _headings(text: str) -> set[str]:
    """Anchors of a page, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("picture", sorted((ROOT / "docs" / "pictures").iterdir()))
def test_a_picture_is_small_and_shown_somewhere(picture: Path) -> None:
    assert picture.stat().st_size <= 150_000
    assert any(f"pictures/{picture.name})" in (ROOT / page).read_text() for page in PAGES)
