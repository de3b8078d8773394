"""Lifetimes of buffers, and the memory they need: the most alive at once, and a static plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ALIGNMENT_BYTES = 64


@dataclass(frozen=True, kw_only=True)
class Lifetime:
    """One buffer: alive from step `first` to step `last`, both included."""

    size_bytes: int
    first: int
    last: int


def live_bytes(lifetimes: Sequence[Lifetime]) -> int:
    """Largest sum of the buffers alive at one step."""
    # The sum only rises where a buffer starts.
    starts = {buffer.first for buffer in lifetimes}
    return max(
        (sum(b.size_bytes for b in lifetimes if b.first <= step <= b.last) for step in starts),
        default=0,
    )


def planned_bytes(lifetimes: Sequence[Lifetime]) -> int:
    """Arena of a static plan: buffers by falling size, each at the lowest offset that is free.

    Greedy by size of Pisarchyk and Lee 2020, arXiv:2001.03288, with offsets aligned to 64 bytes.
    """
    placed: list[tuple[int, int, Lifetime]] = []
    for buffer in sorted(lifetimes, key=lambda b: (-b.size_bytes, b.first)):
        size = -(-buffer.size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        offset = 0
        for start, end, other in sorted(placed, key=lambda item: item[0]):
            overlaps = other.first <= buffer.last and buffer.first <= other.last
            if not overlaps or end <= offset:
                continue
            if offset + size <= start:
                break
            offset = end
        placed.append((offset, offset + size, buffer))
    return max((end for _, end, _ in placed), default=0)
