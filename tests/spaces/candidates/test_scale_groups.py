"""Counting groups of columns, and reading their size off a count."""

from __future__ import annotations

import pytest

from paredown.spaces.candidates.scale_groups import effective_size, group_count, size_of


@pytest.mark.parametrize("size", [32, 64, 128])
def test_groups_cover_every_column_once(size: int) -> None:
    for columns in range(1, 600):
        count = group_count(columns, size)
        assert (count - 1) * size < columns <= count * size


@pytest.mark.parametrize("size", [32, 64, 128])
def test_the_size_follows_from_the_count(size: int) -> None:
    for columns in range(size + 1, 2000):
        assert effective_size(columns, size) == size
        assert size_of(columns, group_count(columns, size)) == size


def test_one_group_is_one_scale_for_the_row() -> None:
    assert effective_size(32, 32) == effective_size(20, 128) == 0
    assert effective_size(33, 32) == 32
