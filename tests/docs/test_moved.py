"""docs/moved.md leads to modules and names that exist, and lists no module that did not move."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "moved.md").read_text(encoding="utf-8")
MODULES = re.findall(r"^\| `(paredown[\w.]+)` \| `(paredown[\w.]+)` \|$", PAGE, re.MULTILINE)
NAMES = sorted(set(re.findall(r"`([\w.]+)(?:\([^`]*)?` in `(paredown[\w.]+)`", PAGE)))


def test_modules_lead_to_files_and_were_elsewhere() -> None:
    assert len(MODULES) > 200
    for was, now in MODULES:
        assert was != now
        assert importlib.util.find_spec(now) is not None, now


@pytest.mark.parametrize(("path", "module"), NAMES)
def test_names_lead_to_what_a_module_offers(path: str, module: str) -> None:
    name, _, member = path.partition(".")
    found = getattr(importlib.import_module(module), name)
    # A field of a record has no attribute on its class unless it has a default.
    assert not member or hasattr(found, member) or member in found.__dataclass_fields__
