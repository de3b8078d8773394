"""Which buffers of a run share memory: in place first, else a dead one of equal extent."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from paredown.hardware_models.memory.lifetimes import Lifetime

Extent = tuple[int, ...]
"""Bytes of an item, then the dimensions: the runtime lets a buffer serve again for equal ones."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One kernel: buffers read, the buffer written, and those it may write over once they die."""

    reads: tuple[int, ...]
    writes: int
    over: tuple[int, ...] = ()


def shared_lifetimes(
    steps: Sequence[Step], extents: Sequence[Extent], held: Sequence[int], outputs: Collection[int]
) -> tuple[Lifetime, ...]:
    """Lifetimes after the runtime's planner: in place first, else a dead buffer of equal extent.

    A buffer that serves again stays allocated in between (AllocationPlanner of ONNX Runtime).
    """
    end = len(steps)
    last = dict.fromkeys((*held, *outputs), end)
    for at, step in enumerate(steps):
        for index in (*step.reads, step.writes):
            last[index] = max(last.get(index, 0), at)
    root = {index: index for index in held}
    first = dict.fromkeys(held, 0)
    until = {index: last[index] for index in held}

    def reusable(step: Step, at: int) -> int:
        """The buffer that a step's result takes: one it may write over, one that died, or its own."""
        extent = extents[step.writes]
        for index in step.over:
            found = root[index]
            fits = math.prod(extents[found]) == math.prod(extent)
            if found not in held and until[found] <= at and fits:
                return found
        dead = [i for i in until if until[i] < at and i not in held and extents[i] == extent]
        return max(dead, key=lambda i: until[i], default=step.writes)

    for at, step in enumerate(steps):
        # The run's results belong to the caller: they share nothing.
        is_result = step.writes in outputs
        target = step.writes if is_result else reusable(step, at)
        root[step.writes] = target
        first.setdefault(target, at)
        until[target] = max(until.get(target, 0), last[step.writes])
    return tuple(
        Lifetime(size_bytes=math.prod(extents[index]), first=first[index], last=until[index])
        for index in first
    )
