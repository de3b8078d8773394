"""Plans of memory against brute force over all orders."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from paredown.hardware_models.memory.lifetimes import (
    ALIGNMENT_BYTES,
    Lifetime,
    live_bytes,
    planned_bytes,
)

BUFFERS = st.lists(
    st.builds(
        lambda size, first, length: Lifetime(
            size_bytes=size * ALIGNMENT_BYTES, first=first, last=first + length
        ),
        st.integers(1, 8),
        st.integers(0, 5),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=5,
)


def best_plan_bytes(buffers: list[Lifetime]) -> int:
    """The smallest arena: the best of first fit over all orders, one of which is optimal."""
    best = 10**9
    for order in itertools.permutations(buffers):
        placed: list[tuple[int, Lifetime]] = []
        for buffer in order:
            offset = 0
            while any(
                other.first <= buffer.last
                and buffer.first <= other.last
                and at < offset + buffer.size_bytes
                and offset < at + other.size_bytes
                for at, other in placed
            ):
                offset += ALIGNMENT_BYTES
            placed.append((offset, buffer))
        best = min(best, max(at + b.size_bytes for at, b in placed))
    return best


@settings(max_examples=60, deadline=None, derandomize=True)
@given(BUFFERS)
def test_the_plan_is_between_the_best_one_and_the_sum(buffers):
    best = best_plan_bytes(buffers)
    assert live_bytes(buffers) <= best <= planned_bytes(buffers)
    assert planned_bytes(buffers) <= 1.5 * best


@settings(max_examples=60, deadline=None, derandomize=True)
@given(BUFFERS)
def test_the_lower_bound_is_the_largest_sum_over_all_steps(buffers):
    sums = [sum(b.size_bytes for b in buffers if b.first <= t <= b.last) for t in range(10)]
    assert live_bytes(buffers) == max(sums)


def test_buffers_that_never_meet_share_their_bytes():
    assert planned_bytes([Lifetime(size_bytes=100, first=i, last=i) for i in range(5)]) == 128
