"""Results are found again by what was asked for, the last few of them."""

from __future__ import annotations

from paredown.compressors.matrix.recent import Recent


def test_a_result_is_made_once_and_the_one_used_longest_ago_is_forgotten() -> None:
    made: list[str] = []
    recent: Recent[str, str] = Recent(2)

    def ask(key: str) -> str:
        return recent.get(key, lambda: made.append(key) or key.upper())

    assert [ask(key) for key in ("a", "b", "a", "c", "a", "b")] == ["A", "B", "A", "C", "A", "B"]
    # "c" put out "b", which had been used before "a" was again.
    assert made == ["a", "b", "c", "b"]
