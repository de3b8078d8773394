from __future__ import annotations

import pytest

from paredown.spaces.candidates.zeros import keep_of, kept_count


def test_counts_by_hand() -> None:
    assert kept_count(4, 10, 0.25, "element") == 30
    # Eight blocks and two columns a row that fill none: half of the blocks go.
    assert kept_count(4, 10, 0.5, "block") == 40 - 4 * 4
    assert kept_count(4, 10, 0.5, "2:4") == 4 * (2 + 2 + 2)
    assert kept_count(4, 3, 0.9, "block") == kept_count(4, 3, 0.9, "2:4") == 12


@pytest.mark.parametrize("pattern", ["dense", "4:2", "0:4", "2-4", ""])
def test_other_words_are_no_patterns(pattern: str) -> None:
    with pytest.raises(ValueError, match="must be one of element, block or 'N:M'"):
        keep_of(pattern)
