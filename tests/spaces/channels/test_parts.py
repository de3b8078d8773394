"""Parts are cut where groups end."""

from __future__ import annotations

from paredown.spaces.channels.parts import Part, cut, size_of

PARTS = (Part("a", 2, 3), Part(None, 4), Part("b", 5))


def test_sizes_count_repeats() -> None:
    assert [part.size for part in PARTS] == [6, 4, 5]
    assert size_of(PARTS) == 15


def test_a_cut_between_groups_or_through_fixed_entries_gives_parts() -> None:
    assert cut(PARTS, 0, 15) == PARTS
    assert cut(PARTS, 6, 9) == (Part(None, 3),)
    assert cut(PARTS, 8, 15) == (Part(None, 2), Part("b", 5))
    assert cut(PARTS, 3, 3) == ()


def test_a_cut_through_a_group_gives_none() -> None:
    assert cut(PARTS, 3, 10) is None
    assert cut(PARTS, 0, 12) is None
