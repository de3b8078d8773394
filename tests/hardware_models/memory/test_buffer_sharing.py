"""Buffers that serve again: in place, after a death, never for results or the caller's inputs."""

from __future__ import annotations

from paredown.hardware_models.memory.buffer_sharing import Step, shared_lifetimes
from paredown.hardware_models.memory.lifetimes import live_bytes

WIDE, FLAT = (4, 10, 10), (4, 100)


def total(steps, extents, outputs):
    """Bytes alive at most, buffer 0 being the caller's."""
    return live_bytes(shared_lifetimes(steps, extents, [0], {outputs}))


def test_a_step_may_write_over_what_dies_with_it():
    steps = [
        Step(reads=(0,), writes=1),
        Step(reads=(1,), writes=2, over=(1,)),
        Step(reads=(2,), writes=3),
    ]
    assert total(steps, [WIDE] * 4, 3) == 3 * 400
    kept = [*steps[:2], Step(reads=(1, 2), writes=3)]
    assert total(kept, [WIDE] * 4, 3) == 4 * 400


def test_the_callers_input_is_never_written_over():
    steps = [Step(reads=(0,), writes=1, over=(0,)), Step(reads=(1,), writes=2)]
    assert total(steps, [WIDE] * 3, 2) == 3 * 400


def test_a_result_shares_with_nothing():
    steps = [Step(reads=(0,), writes=1), Step(reads=(1,), writes=2, over=(1,))]
    assert total(steps, [WIDE] * 3, 2) == 3 * 400


def test_a_dead_buffer_serves_again_for_equal_dimensions_alone():
    steps = [Step(reads=(i,), writes=i + 1) for i in range(4)]
    # 3 takes the buffer of 1, which then lives on; a flat one of as many bytes does not fit it.
    equal = shared_lifetimes(steps, [WIDE] * 5, [0], {4})
    assert len(equal) == 4
    other = shared_lifetimes(steps, [WIDE, WIDE, WIDE, FLAT, WIDE], [0], {4})
    assert len(other) == 5
