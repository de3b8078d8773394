"""Text from outside, made harmless for where it is shown."""

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paredown.spaces.system.foreign_text import (
    as_code,
    as_code_block,
    as_html,
    as_markdown,
    shown,
    without_passwords,
)

ANYTHING = st.text(st.characters(codec=None), max_size=60)


@given(ANYTHING)
def test_what_is_shown_steers_no_terminal_and_can_be_written(text):
    out = shown(text)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", out)
    out.encode("utf-8")
    assert shown(out) == out


@given(st.text(st.characters(codec="ascii", categories=("L", "N", "P", "S", "Zs")), max_size=60))
def test_html_gives_the_text_back_and_holds_no_tag(text):
    assert html.unescape(as_html(text)) == without_passwords(text)
    assert not set("<>\"'") & set(as_html(text))


@given(ANYTHING)
def test_a_block_of_code_ends_where_we_end_it(text):
    fence, *lines, last = as_code_block(text).split("\n")
    assert fence == last
    assert fence not in "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a`b", "`` a`b ``"),
        ("plain", "`plain`"),
        ("``", "``` `` ```"),
    ],
)
def test_code_in_a_line_is_fenced_by_more_backticks_than_it_has(text, expected):
    assert as_code(text) == expected


def test_markdown_keeps_a_cell_and_starts_nothing():
    told = as_markdown("# a|b\n![x](http://y) <img src=x> `c`")
    assert "\n" not in told
    assert not re.search(r"(?<!\\)[|`*_\[\]!#]", told)
    assert "<" not in told


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://me:se:cret@host/x", "http://me:***@host/x"),
        ("postgresql+psycopg2://u:p%40@h/db", "postgresql+psycopg2://u:***@h/db"),
        ("http://:p@h", "http://:***@h"),
        ("http://u:${PW}@h", "http://u:${PW}@h"),
        ("http://host:5000/a@b", "http://host:5000/a@b"),
        ("sqlite:////a/b.db", "sqlite:////a/b.db"),
    ],
)
def test_passwords_of_urls_are_left_out_and_nothing_else(text, expected):
    assert without_passwords(text) == expected
