"""The tables of docs/config.md against the schema: every key with its default and meaning, no other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from paredown.search.config.reading import json_schema

PAGE = Path(__file__).resolve().parents[2] / "docs" / "config.md"
Row = tuple[str, str, str]


def _of_the_page() -> set[Row]:
    text = PAGE.read_text(encoding="utf-8")
    tables = re.findall(
        r"^\| key \| default \| meaning \|\n\|---.*\n((?:\|.*\n)+)", text, re.MULTILINE
    )
    return set(re.findall(r"^\| `(\w+)` \| (.*?) \| (.*) \|$", "".join(tables), re.MULTILINE))


def _of_the_schema() -> Iterator[Row]:
    schema = json_schema()
    for section in (schema, *schema["$defs"].values()):
        for key, value in section.get("properties", {}).items():
            if "const" not in value:  # that picks the section, and is its heading
                default = _default(key, value, section.get("required", ()))
                yield key, default, value.get("description", "")


def _default(key: str, value: Mapping[str, Any], required: list[str]) -> str:
    if key in required:
        return "required"
    default = value.get("default")
    if "default" not in value:
        return "–"
    if isinstance(default, dict) or (isinstance(default, list) and default and key == "rules"):
        return "see below" if default else "`{}`"
    written = default if key in ("code_folder", "folder") else json.dumps(default)
    return f"`{written}`"


def test_every_key_stands_on_the_page_with_its_default_and_its_meaning() -> None:
    assert sorted(set(_of_the_schema()) - _of_the_page()) == []


def test_the_page_has_no_key_that_the_schema_has_not() -> None:
    assert sorted(_of_the_page() - set(_of_the_schema())) == []
