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

import numpy as np

from paredown.hardware_models.devices.device import Device
from paredown.hardware_models.latency.estimate import Estimates
from paredown.hardware_models.latency.intervals import mixes_of_flags, precision_flags
from paredown.hardware_models.latency.models import AdditiveLatency, Array, LatencyError
from paredown.hardware_models.pricing.compiled_segment import (
    CLOSE,
    NEXT,
    STATES,
    Codes,
    Entry,
    alike,
    unit_of,
)
from paredown.hardware_models.work.alignment import blocked_operators, held_bits
from paredown.hardware_models.work.workload import OperatorWork, Work
from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.candidates.factors import outer_node
from paredown.spaces.knobs.architecture_choice import ARCHITECTURE
from paredown.spaces.knobs.knob import Knob
from paredown.spaces.knobs.space import Space

Price = Callable[[Candidate], Work]
"""From a candidate to its work: `read_work` of its blueprint."""

_END = 0
"""What follows the last segment; otherwise the activation bits of the next one that is present."""


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
        self._units = [unit_of(self._architecture, self.knobs, each) for each in segments]
        self._unit_of = {
            node: index for index, segment in enumerate(segments) for node in segment.nodes
        }
        self._states: dict[tuple[tuple[bool, ...], ...], int] = {(): 0}
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
        if not np.allclose(self.predict_many(fresh).value_s, exact, rtol=CLOSE, atol=0.0):
            raise _not_local("a sum over segments differs from the scalar price")

    def predict_many(self, population: Codes) -> Estimates:
        """Latencies of a population, as the model gives them one by one.

        Entries that were never seen are made from the scalar path first.

        Raises:
            LatencyError: Costs of this space are not local to its segments.
        """
        value_s, precisions, missing = self._gather(population)
        while len(missing):
            for codes in missing:
                self._learn(codes)
            for unit in self._units:
                unit.freeze()
            value_s, precisions, missing = self._gather(population)
        low_s, high_s = self._model.interval(value_s, mixes_of_flags(precisions))
        return Estimates(
            value_s=value_s,
            low_s=low_s,
            high_s=high_s,
            source=self._model.source,
            held_out_mape=None,
        )

    def _gather(self, population: Codes) -> tuple[Array, Codes, Codes]:
        """Seconds and precisions (candidates,), and one candidate for each entry that is missing."""
        following = self._following(population)
        count = len(population)
        state = np.zeros(count, np.int64)
        seconds = np.zeros((count, len(self._model.device.memory.levels)))
        weight_bits, precisions = np.zeros((2, count), np.int64)
        missing: list[Codes] = []
        rows = np.arange(count)
        whole = True
        for unit, after in zip(self._units, following, strict=True):
            keys = unit.own(population) * (STATES * NEXT) + after
            keys = (keys if whole else keys[rows]) + state * NEXT
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
            precisions[rows] |= unit.precisions[found]
            state = unit.states[found]
        level = self._level(weight_bits // 8)
        value_s = self._model.run_s + seconds[np.arange(count), level]
        none = np.zeros((0, population.shape[1]), np.int64)
        return value_s, precisions, np.concatenate([none, *missing])

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
        """Index of the level of memory that holds so many bytes, as `weight_level` finds it."""
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
        owners = [self._unit_of_record(op) for op in work.operators]
        weight_bits = _weight_bits(work, self._model.device)
        states = self._states_after(work, owners)
        state = 0
        for index, unit in enumerate(self._units):
            own = np.array([owner == index for owner in owners], bool)
            entry = Entry(
                seconds=tuple(seconds[:, own].sum(axis=1).tolist()),
                weight_bits=sum(b for b, mine in zip(weight_bits, own, strict=True) if mine),
                precisions=precision_flags(
                    op for op, mine in zip(work.operators, own, strict=True) if mine
                ),
                state=states[index],
            )
            key = (int(unit.own(row)[0]) * STATES + state) * NEXT + int(following[index][0])
            known = unit.entries.setdefault(key, entry)
            if not alike(known, entry):
                raise _not_local(f"segment {index} costs differ at one setting of its own knobs")
            state = states[index]

    def _leaves_nodes(self, index: int, drop: int) -> bool:
        """Whether a segment has operators left when the block around its layers is dropped."""
        codes = np.zeros(len(self.knobs), np.int64)
        codes[drop] = 1
        records = self._price(self.candidate(codes)).operators
        return any(self._unit_of_record(op) == index for op in records)

    def _states_after(self, work: Work, owners: list[int]) -> list[int]:
        """State behind each segment: how the values that cross into later segments are kept."""
        blocked = blocked_operators(work, self._model.device)
        place = {op.name: index for index, op in enumerate(work.operators)}
        last_reader: dict[str, int] = {}
        for op, unit in zip(work.operators, owners, strict=True):
            for name in op.sources:
                last_reader[name] = max(unit, last_reader.get(name, 0))
        found = []
        for index in range(len(self._units)):
            crossing = tuple(
                (
                    op.kind in ("quantize", "dequantize"),
                    op.integer and not _finds_range(op),
                    op.name in blocked,
                    op.kind == "add" and op.fused,
                )
                for op in (
                    work.operators[place[n]] for n in sorted(last_reader, key=place.__getitem__)
                )
                if owners[place[op.name]] <= index < last_reader[op.name]
            )
            found.append(self._states.setdefault(crossing, len(self._states)))
        if len(self._states) > STATES:
            raise _not_local(f"more than {STATES} states cross between segments")
        return found

    def _unit_of_record(self, op: OperatorWork) -> int:
        """The segment of a record; an edge belongs to the node it was put before or behind."""
        name = op.name
        if op.kind == "dequantize":
            # Named value.reader, where both may hold dots themselves.
            parts = name.split(".")
            tails = (".".join(parts[i:]) for i in range(1, len(parts)))
            name = next((t for t in tails if _owner(t) in self._unit_of), name)
        name = _owner(name)
        if name in self._unit_of:
            return self._unit_of[name]
        return 0 if op.kind == "quantize" else len(self._units) - 1


def _finds_range(op: OperatorWork) -> bool:
    """Whether an integer kernel gives floats: it reads codes of a range found in every run."""
    return any(name.endswith(".d") for name in op.sources)


def _owner(name: str) -> str:
    """The node that a value rounded before or behind it is named after."""
    return outer_node(name.removesuffix(".q").removesuffix(".d"))


def _weight_bits(work: Work, device: Device) -> list[int]:
    """Bits of each operator's weight as its kernel reads it, a shared weight counted at its first."""
    seen: set[str] = set()
    found = []
    for op in work.operators:
        fresh = op.weight not in seen
        found.append(op.weight_count * held_bits(op, device) if fresh else 0)
        seen.add(op.weight)
    return found


def _not_local(reason: str) -> LatencyError:
    return LatencyError(
        f"a space is compiled only where each segment's cost depends on its own knobs and its "
        f"neighbours: {reason}; price candidates one by one"
    )
