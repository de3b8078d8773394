"""One segment of a compiled space: its knobs, and the table of what it was seen to add."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from paredown.hardware_models.latency.models import Array, LatencyError
from paredown.spaces.candidates.candidate import SegmentChoice
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.block_drop import DropKnob
from paredown.spaces.knobs.knob import Knob
from paredown.spaces.knobs.segment_precision import SegmentKnob
from paredown.spaces.structure.model_map import Segment

Codes = NDArray[np.int64]

STATES = 64
"""Most states that may arrive at a segment; a chain of segments has about four."""
NEXT = 64
"""Above the activation bits of what follows a segment."""
CLOSE = 1e-9
"""Relative difference below which two sums of the same seconds are the same."""
_LARGEST_KEY = 2**62


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What one segment adds: seconds (levels,), bits of weights, the precisions of its layers (flags
    of `intervals`), and the state it hands on."""

    seconds: tuple[float, ...]
    weight_bits: int
    precisions: int
    state: int


@dataclass(kw_only=True)
class Unit:
    """A segment: columns of its knobs, what drops it, its precision by code, and its table.

    `remains` says that some of its nodes stay when its block is dropped, at float precision. The
    five arrays are `entries` sorted by key.
    """

    columns: tuple[int, ...]
    radix: Codes
    drop: int | None
    remains: bool
    precision: int | None
    bits: Codes
    entries: dict[int, Entry] = field(default_factory=dict)
    keys: Codes = field(default_factory=lambda: np.zeros(0, np.int64))
    seconds: Array = field(default_factory=lambda: np.zeros((0, 1)))
    weight_bits: Codes = field(default_factory=lambda: np.zeros(0, np.int64))
    precisions: Codes = field(default_factory=lambda: np.zeros(0, np.int64))
    states: Codes = field(default_factory=lambda: np.zeros(0, np.int64))

    def own(self, population: Codes) -> Codes:
        """One number for the segment's knobs; all of them count as one where it is dropped."""
        found = population[:, self.columns] @ self.radix + 1
        return np.where(self.dropped(population), 0, found)

    def dropped(self, population: Codes) -> NDArray[np.bool_]:
        """Whether each candidate (candidates,) drops the segment."""
        if self.drop is None:
            return np.zeros(len(population), bool)
        return population[:, self.drop] == 1

    def bits_of(self, population: Codes) -> Codes:
        """Bits of the values that the segment reads, for each candidate (candidates,)."""
        if self.precision is None:
            return np.full(len(population), self.bits[0])
        return self.bits[population[:, self.precision]]

    def freeze(self) -> None:
        """Arrays of all entries so far."""
        self.keys = np.array(sorted(self.entries), np.int64)
        rows = [self.entries[key] for key in self.keys.tolist()]
        self.seconds = np.array([row.seconds for row in rows])
        self.weight_bits = np.array([row.weight_bits for row in rows], np.int64)
        self.precisions = np.array([row.precisions for row in rows], np.int64)
        self.states = np.array([row.state for row in rows], np.int64)


def unit_of(architecture: Architecture, knobs: tuple[Knob, ...], segment: Segment) -> Unit:
    """A segment with an empty table.

    Raises:
        LatencyError: It has too many settings to be numbered.
    """
    model_map = architecture.model_map
    columns = tuple(i for i, knob in enumerate(knobs) if knob.touches(model_map, segment))
    sizes = [len(knobs[i].domain) for i in columns]
    if math.prod(sizes) >= _LARGEST_KEY // (STATES * NEXT):
        raise LatencyError(
            f"a segment's settings must be fewer than 2^50 to be numbered, {segment.name} has "
            f"{math.prod(sizes)}; price candidates one by one, or tie knobs"
        )
    radix = np.cumprod([1, *sizes])[:-1].astype(np.int64)
    drop = precision = None
    bits = np.array([32])
    for index in columns:
        knob = knobs[index]
        if isinstance(knob, DropKnob) and knob.removes(model_map, segment):
            drop = index
        if isinstance(knob, SegmentKnob):
            precision = index
    for knob in architecture.knobs_of(SegmentKnob):
        if segment.name in knob.targets:
            bits = np.array([_wanted_bits(choice) for choice in knob.domain])
    return Unit(
        columns=columns, radix=radix, drop=drop, remains=False, precision=precision, bits=bits
    )


def _wanted_bits(choice: SegmentChoice) -> int:
    """The width in which a segment takes what the one before it gives."""
    return choice.activation_bits if choice.ranges == "static" else 32


def alike(first: Entry, second: Entry) -> bool:
    """Whether two candidates say the same of a segment."""
    return (
        first.state == second.state
        and first.weight_bits == second.weight_bits
        and first.precisions == second.precisions
        and np.allclose(first.seconds, second.seconds, rtol=CLOSE, atol=1e-18)
    )
