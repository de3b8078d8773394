"""Texts that would hang or flood a reader are refused at once; others are read as usual."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from paredown.spaces.system.bounded import (
    JSON_BYTES,
    YAML_BYTES,
    UnreadableTextError,
    as_list,
    as_mapping,
    compose_yaml,
    parse_json,
    parse_yaml,
    read_json,
    read_text,
)

NINE = "[x, x, x, x, x, x, x, x, x]"


def aliases(levels: int) -> str:
    """A YAML text of a few lines that stands for 9**(levels + 1) values."""
    lines = [f"a0: &a0 {NINE}"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels + 1)]
    return "\n".join(lines)


def merges(levels: int) -> str:
    """The same by merge keys, which the reader itself would write out."""
    lines = ["a0: &a0 {k: x}"]
    lines += [
        f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, levels + 1)
    ]
    return "\n".join(lines)


# What YAML takes for line breaks is folded where it is written as it is.
TEXT = st.text(st.characters(exclude_characters="\x85\u2028\u2029"))

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(plain)
def test_what_json_writes_is_read_as_it_was(value: object) -> None:
    assert parse_json(json.dumps(value)) == value


@given(plain)
def test_what_yaml_writes_is_read_as_it_was(value: object) -> None:
    assert parse_yaml(yaml.safe_dump(value, allow_unicode=True)) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (aliases(8), "100,000 values .* aliases"),
        (merges(8), "100,000 values .* aliases"),
        ("a: &a [*a]", "64 levels"),
        (
            "\n".join(["a0: &a0 [x]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 90))]),
            "levels",
        ),
        ("[" * 100 + "]" * 100, "64 levels"),
        ("[" * 50_000, "64 levels"),
        ("n: " + "9" * 6000, "40 characters.* 6,000 in line 1"),
        ("n: !!int " + "1" * 6000, "40 characters"),
        ("n: " + ":".join(["59"] * 3000), "40 characters"),
        ("#" * (YAML_BYTES + 1), "1,048,576 bytes"),
        ("a: !!bool perhaps", "does not fit"),
        ("a: !!timestamp never", "does not fit"),
        ("a: 2001-99-99", "does not fit"),
        ("a: !!python/object/apply:os.system [x]", "could not determine a constructor"),
        ("a: [", "expected the node content"),
        ("\0", "special characters"),
    ],
)
def test_yaml_that_would_not_end_or_fit_is_refused_at_once(text: str, reason: str) -> None:
    started_s = time.monotonic()
    with pytest.raises(UnreadableTextError, match=rf"(?s){reason}"):
        parse_yaml(text)
    assert time.monotonic() - started_s < 10


def test_aliases_within_bounds_are_read_and_know_their_lines() -> None:
    node, value = compose_yaml(aliases(3))
    assert value["a1"] == [["x"] * 9] * 9
    assert isinstance(node, yaml.MappingNode)
    assert node.value[2][0].start_mark.line == 2


def test_an_empty_text_is_none() -> None:
    assert compose_yaml("") == (None, None)
    assert parse_yaml("# nothing") is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100 + "]" * 100, "64 levels"),
        ("[" * 100_000 + "]" * 100_000, "64 levels"),
        ('{"a": ' * 100 + "1" + "}" * 100, "64 levels"),
        ("9" * 6000, "64 bits.* 6,000 digits"),
        ("18446744073709551616", "64 bits"),
        ("NaN", "finite"),
        ("[-Infinity]", "finite"),
        ('{"a": 1e999}', "finite"),
        ('{"a": 1, "a": 2}', "'a' twice"),
        ('{"a": ', "must be JSON"),
        (b'{"a": "\xff"}', "must be JSON"),
        ("", "must be JSON"),
    ],
)
def test_json_beyond_its_bounds_is_refused(text: str | bytes, reason: str) -> None:
    with pytest.raises(UnreadableTextError, match=reason):
        parse_json(text)


def test_numbers_without_end_are_read_where_python_wrote_them() -> None:
    assert parse_json('[Infinity, {"a": -Infinity}]', finite=False) == [
        float("inf"),
        {"a": float("-inf")},
    ]


def test_no_more_is_read_than_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    with path.open("wb") as file:
        file.truncate(JSON_BYTES + 1)  # a file of zeros that takes no room
    with pytest.raises(UnreadableTextError, match=f"{JSON_BYTES:,} bytes"):
        read_json(path)


def test_a_device_without_an_end_is_refused() -> None:
    with pytest.raises(UnreadableTextError, match="at most 1,000 bytes"):
        read_text(Path("/dev/zero"), 1000)


def test_other_bytes_than_utf_8_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("größe: 3".encode("latin-1"))
    with pytest.raises(UnreadableTextError, match="UTF-8"):
        read_text(path, 1000)


@pytest.mark.parametrize(
    ("narrowed", "right", "wrong"), [(as_mapping, {"a": 1}, [1]), (as_list, [1], {"a": 1})]
)
def test_a_value_of_another_kind_is_refused(narrowed, right, wrong):
    assert narrowed(right) is right
    with pytest.raises(UnreadableTextError, match=type(wrong).__name__):
        narrowed(wrong)
