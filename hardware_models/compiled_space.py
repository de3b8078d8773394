"""A whole space priced by gathering: tables of what each segment costs, summed over a population.

An additive latency model sees one operator at a time, and an operator sees its own segment's
knobs, the segment before it (which values arrive as codes, which in a blocked layout) and the one
behind it (whether codes are wanted). So a segment's seconds are a function of its own knobs, the
state that arrives and the precision that follows. That function is tabulated from the scalar path,
entry by entry when first needed, and a population is a chain of look-ups: the scalar prices,
thousands of times faster. Spaces that are not so local are noticed and refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paredown.hardware_models.alignment import blocked_operators
from paredown.hardware_models.latency import (
    AdditiveLatency,
    Array,
    Estimates,
    LatencyError,
    estimates_of,
)
from paredown.hardware_models.workload import CONTAINER_BITS, OperatorWork, Work
from paredown.spaces.candidate import Candidate
from paredown.spaces.model_map import ModelMap, Segment
from paredown.spaces.space import ARCHITECTURE, Architecture, Knob, Space

Codes = NDArray[np.int64]
Price = Callable[[Candidate], Work]
"""From a candidate to its work: `read_work` of its blueprint."""

_UNKNOWN = -1
_END = 0
"""What follows the last segment; otherwise the activation bits of the next one that is present."""
_STATES = 64
"""Most states that may arrive at a segment; a chain of segments has about four."""
_NEXT = 64
_CLOSE = 1e-9
_LARGEST_KEY = 2**62


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """What one segment adds: seconds (levels,), bits of weights, and the state it hands on."""

    seconds: tuple[float, ...]
    weight_bits: int
    state: int


@dataclass(kw_only=True)
class _Unit:
    """A segment: columns of its knobs, what drops it, its precision by code, and its table.

    `remains` says that some of its nodes stay when its block is dropped, at float precision. The
    four arrays are `entries` sorted by key.
    """

    columns: tuple[int, ...]
    radix: Codes
    drop: int | None
    remains: bool
    precision: int | None
    bits: Codes
    entries: dict[int, _Entry] = field(default_factory=dict)
    keys: Codes = field(default_factory=lambda: np.zeros(0, np.int64))
    seconds: Array = field(default_factory=lambda: np.zeros((0, 1)))
    weight_bits: Codes = field(default_factory=lambda: np.zeros(0, np.int64))
    states: Codes = field(default_factory=lambda: np.zeros(0, np.int64))

    def own(self, population: Codes) -> Codes:
        """One number for the segment's knobs; all of them count as one where it is dropped."""
        found = population[:, self.columns] @ self.radix + 1
        return np.where(self.dropped(population), 0, found)

    def dropped(self, population: Codes) -> NDArray[np.bool_]:
        if self.drop is None:
            return np.zeros(len(population), bool)
        return population[:, self.drop] == 1

    def bits_of(self, population: Codes) -> Codes:
        if self.precision is None:
            return np.full(len(population), self.bits[0])
        return self.bits[population[:, self.precision]]

    def freeze(self) -> None:
        """Arrays of all entries so far."""
        self.keys = np.array(sorted(self.entries), np.int64)
        rows = [self.entries[key] for key in self.keys.tolist()]
        self.seconds = np.array([row.seconds for row in rows])
        self.weight_bits = np.array([row.weight_bits for row in rows], np.int64)
        self.states = np.array([row.state for row in rows], np.int64)


class CompiledSpace:
    """Prices populations of one architecture under one additive model.

    A population is an integer array (candidates, knobs): positions in the domains of `knobs`.

    Raises:
        LatencyError: A segment has too many settings to be numbered.
    """

    def __init__(
        self, space: Space, model: AdditiveLatency, price: Price, architecture: int = 0
    ) -> None:
        self._space, self._position = space, architecture
        self._architecture = space.architectures[architecture]
        architecture_knobs = self._architecture.knobs
        self.knobs: tuple[Knob, ...] = tuple(k for k in architecture_knobs if len(k.domain) > 1)
        self._model = model
        self._price = price
        segments = self._architecture.model_map.segments
        self._units = [_unit(self._architecture, self.knobs, each) for each in segments]
        self._unit_of = {
            node: index for index, segment in enumerate(segments) for node in segment.nodes
        }
        self._states: dict[tuple[Any, ...], int] = {(): 0}
        for index, unit in enumerate(self._units):
            unit.remains = unit.drop is not None and self._leaves_nodes(index, unit.drop)

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many values each knob has, in the order of `knobs`."""
        return tuple(len(knob.domain) for knob in self.knobs)

    def draw(self, count: int, seed: int) -> Codes:
        """A random population."""
        random = np.random.default_rng(seed)
        return random.integers(0, self.sizes, (count, len(self.knobs)))

    def candidate(self, codes: Codes) -> Candidate:
        """The canonical candidate of one row of a population."""
        name = self._architecture.name
        values = {
            f"{name}/{knob.name}" if name else knob.name: int(code)
            for knob, code in zip(self.knobs, codes, strict=True)
        }
        return self._space.decode({ARCHITECTURE: self._position, **values})

    def compile(self, count: int = 20_000, seed: int = 0) -> None:
        """Makes the entries of `count` random candidates, then holds 32 others to the scalar path.

        Raises:
            LatencyError: Costs of this space are not local to its segments.
        """
        self.predict_many(self.draw(count, seed))
        fresh = self.draw(32, seed + 1)
        works = [self._price(self.candidate(codes)) for codes in fresh]
        exact = self._model.predict_many(works).value_s
        if not np.allclose(self.predict_many(fresh).value_s, exact, rtol=_CLOSE, atol=0.0):
            raise _not_local("a sum over segments differs from the scalar price")

    def predict_many(self, population: Codes) -> Estimates:
        """Latencies of a population, as the model gives them one by one.

        Entries that were never seen are made from the scalar path first.

        Raises:
            LatencyError: Costs of this space are not local to its segments.
        """
        value_s, missing = self._gather(population)
        while len(missing):
            for codes in missing:
                self._learn(codes)
            for unit in self._units:
                unit.freeze()
            value_s, missing = self._gather(population)
        return estimates_of(self._model, value_s, None)

    def _gather(self, population: Codes) -> tuple[Array, Codes]:
        """Seconds (candidates,), or one candidate for each entry that is missing."""
        following = self._following(population)
        count = len(population)
        state = np.zeros(count, np.int64)
        seconds = np.zeros((count, len(self._model.device.memory.levels)))
        weight_bits = np.zeros(count, np.int64)
        missing: list[Codes] = []
        rows = np.arange(count)
        whole = True
        for unit, after in zip(self._units, following, strict=True):
            keys = unit.own(population) * (_STATES * _NEXT) + after
            keys = (keys if whole else keys[rows]) + state * _NEXT
            found = np.searchsorted(unit.keys, keys)
            known = found < len(unit.keys)
            known[known] = unit.keys[found[known]] == keys[known]
            if not known.all():
                _, first = np.unique(keys[~known], return_index=True)
                missing.append(population[rows[~known][first]])
                rows, found, whole = rows[known], found[known], False
            if len(rows) == 0:
                break
            seconds[rows] += unit.seconds[found]
            weight_bits[rows] += unit.weight_bits[found]
            state = unit.states[found]
        level = self._level(weight_bits // 8)
        value_s = self._model.run_s + seconds[np.arange(count), level]
        none = np.zeros((0, population.shape[1]), np.int64)
        return value_s, np.concatenate([none, *missing])

    def _following(self, population: Codes) -> list[Codes]:
        """Activation bits of the next segment that is present, for each segment (candidates,)."""
        after = np.full(len(population), _END, np.int64)
        found: list[Codes] = []
        for unit in reversed(self._units):
            found.append(after)
            gone = unit.dropped(population)
            instead = np.full(len(gone), 32) if unit.remains else after
            after = np.where(gone, instead, unit.bits_of(population))
        return found[::-1]

    def _level(self, weight_bytes: Codes) -> Codes:
        """Index of the level of memory that holds so many bytes, as `memory_level` finds it."""
        limits = [
            math.inf if level.size_bytes is None else level.size_bytes
            for level in self._model.device.memory.levels[:-1]
        ]
        return np.searchsorted(np.array(limits), weight_bytes, side="left")

    def _learn(self, codes: Codes) -> None:
        """Enters what the scalar path says of one candidate, segment by segment."""
        row = codes[None]
        work = self._price(self.candidate(codes))
        following = self._following(row)
        levels = range(len(self._model.device.memory.levels))
        seconds = np.array([self._model.operators_s(work, level) for level in levels])
        unit_of = [self._unit_of_record(op) for op in work.operators]
        weight_bits = _weight_bits(work)
        states = self._states_after(work, unit_of)
        state = 0
        for index, unit in enumerate(self._units):
            own = np.array([u == index for u in unit_of], bool)
            entry = _Entry(
                seconds=tuple(seconds[:, own].sum(axis=1).tolist()),
                weight_bits=sum(b for b, mine in zip(weight_bits, own, strict=True) if mine),
                state=states[index],
            )
            key = (int(unit.own(row)[0]) * _STATES + state) * _NEXT + int(following[index][0])
            known = unit.entries.setdefault(key, entry)
            if not _alike(known, entry):
                raise _not_local(f"segment {index} costs differ at one setting of its own knobs")
            state = states[index]

    def _leaves_nodes(self, index: int, drop: int) -> bool:
        """Whether a segment has operators left when the block around its layers is dropped."""
        codes = np.zeros(len(self.knobs), np.int64)
        codes[drop] = 1
        records = self._price(self.candidate(codes)).operators
        return any(self._unit_of_record(op) == index for op in records)

    def _states_after(self, work: Work, unit_of: list[int]) -> list[int]:
        """State behind each segment: how the values that cross into later segments are kept."""
        blocked = blocked_operators(work, self._model.device)
        place = {op.name: index for index, op in enumerate(work.operators)}
        last_reader: dict[str, int] = {}
        for op, unit in zip(work.operators, unit_of, strict=True):
            for name in op.sources:
                last_reader[name] = max(unit, last_reader.get(name, 0))
        found = []
        for index in range(len(self._units)):
            crossing = tuple(
                (op.kind in ("quantize", "dequantize"), op.integer, op.name in blocked)
                for op in (work.operators[place[n]] for n in sorted(last_reader, key=place.get))
                if unit_of[place[op.name]] <= index < last_reader[op.name]
            )
            found.append(self._states.setdefault(crossing, len(self._states)))
        if len(self._states) > _STATES:
            raise _not_local(f"more than {_STATES} states cross between segments")
        return found

    def _unit_of_record(self, op: OperatorWork) -> int:
        """The segment of a record; an edge belongs to the node it was put before or behind."""
        name = op.name
        if op.kind == "dequantize":
            # Named value.reader, where both may hold dots themselves.
            parts = name.split(".")
            tails = (".".join(parts[i:]) for i in range(1, len(parts)))
            name = next((t for t in tails if t.removesuffix(".inner") in self._unit_of), name)
        name = name.removesuffix(".q").removesuffix(".inner")
        if name in self._unit_of:
            return self._unit_of[name]
        return 0 if op.kind == "quantize" else len(self._units) - 1


def _unit(architecture: Architecture, knobs: tuple[Knob, ...], segment: Segment) -> _Unit:
    columns = tuple(i for i, k in enumerate(knobs) if _touches(architecture.model_map, k, segment))
    sizes = [len(knobs[i].domain) for i in columns]
    if math.prod(sizes) >= _LARGEST_KEY // (_STATES * _NEXT):
        raise LatencyError(
            f"a segment's settings must be fewer than 2^50 to be numbered, {segment.name} has "
            f"{math.prod(sizes)}; price candidates one by one, or tie knobs"
        )
    radix = np.cumprod([1, *sizes])[:-1].astype(np.int64)
    drop = precision = None
    bits = np.array([32])
    for index in columns:
        if knobs[index].kind == "drop" and _drops_whole(architecture, knobs[index], segment):
            drop = index
        if knobs[index].kind == "segment" and segment.name in knobs[index].targets:
            precision = index
    for knob in architecture.knobs:
        if knob.kind == "segment" and segment.name in knob.targets:
            bits = np.array([choice.activation_bits for choice in knob.domain])
    return _Unit(
        columns=columns, radix=radix, drop=drop, remains=False, precision=precision, bits=bits
    )


def _touches(model_map: ModelMap, knob: Knob, segment: Segment) -> bool:
    """Whether a knob changes anything inside a segment."""
    layers = set(segment.layers)
    if knob.kind == "segment":
        return segment.name in knob.targets
    if knob.kind == "drop":
        blocks = [b for b in model_map.blocks if b.name in knob.targets]
        return any(layers & set(block.layers) for block in blocks)
    if knob.kind == "width":
        groups = [g for g in model_map.groups if g.name in knob.targets]
        return any(layers & {*group.producers, *group.consumers} for group in groups)
    return bool(layers & set(knob.targets))


def _drops_whole(architecture: Architecture, knob: Knob, segment: Segment) -> bool:
    blocks = [b for b in architecture.model_map.blocks if b.name in knob.targets]
    return bool(segment.layers) and any(
        set(segment.layers) <= set(block.layers) for block in blocks
    )


def _weight_bits(work: Work) -> list[int]:
    """Bits of each operator's weight in its container, a shared weight counted at its first."""
    seen: set[str] = set()
    found = []
    for op in work.operators:
        fresh = op.weight not in seen
        found.append(op.weight_count * CONTAINER_BITS[op.onnx_type] if fresh else 0)
        seen.add(op.weight)
    return found


def _alike(first: _Entry, second: _Entry) -> bool:
    return (
        first.state == second.state
        and first.weight_bits == second.weight_bits
        and np.allclose(first.seconds, second.seconds, rtol=_CLOSE, atol=1e-18)
    )


def _not_local(reason: str) -> LatencyError:
    return LatencyError(
        f"a space is compiled only where each segment's cost depends on its own knobs and its "
        f"neighbours: {reason}; price candidates one by one"
    )
