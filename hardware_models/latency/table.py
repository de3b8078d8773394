"""A latency model that looks operators up: measured one by one, summed, two factors for the rest.

A table is exact where it has the very operator. Between entries it interpolates only inside one
alignment step, where a kernel pads to the same channels and does the same work; across a step
latency jumps, so there the fallback model answers, scaled by how the table compares with it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from operator import attrgetter
from typing import Any, TypeAlias

import numpy as np
from scipy.optimize import nnls

from paredown.hardware_models.devices.device import Device
from paredown.hardware_models.latency.cross_fitting import held_out_errors
from paredown.hardware_models.latency.estimate import Estimate, Estimates
from paredown.hardware_models.latency.intervals import (
    Indices,
    Ratio,
    bound_95,
    independent_ratio,
    symmetric,
)
from paredown.hardware_models.latency.measurements import check_measurements
from paredown.hardware_models.latency.models import Array, RooflineLatency, estimates_of
from paredown.hardware_models.work.workload import OperatorWork, Work
from paredown.spaces.system.json_values import Json

Key: TypeAlias = "tuple[bool | int | str | Key, ...]"
"""What operators have in common, as plain values: the fields of a signature, or a part of them."""
PRODUCTS = ("conv", "depthwise_conv", "conv_transpose", "linear")
"""Kinds of operators that tables hold: those that multiply with weights."""


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What the time of one operator depends on."""

    kind: str
    integer: bool
    onnx_type: str
    in_channels: int
    out_channels: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    groups: int
    out_spatial: int
    batch: int

    @property
    def shape(self) -> Key:
        """Everything but the channels."""
        return (
            self.kind, self.integer, self.onnx_type, self.kernel_size, self.stride,
            self.kind == "depthwise_conv" or self.groups, self.out_spatial, self.batch,
        )  # fmt: skip


_NAMES = tuple(field.name for field in fields(Signature))
_FIELDS = attrgetter(*_NAMES)
"""The fields of a signature, from it or from the operator itself, in which they have the same names."""


def signature(op: OperatorWork | Signature) -> Signature:
    """The signature of an operator."""
    return Signature(**dict(zip(_NAMES, _FIELDS(op), strict=True)))


@dataclass(frozen=True, kw_only=True)
class TableEntry:
    """One measured operator, seconds without what any run costs, and what the preset says."""

    signature: Signature
    seconds: float
    preset_s: float


@dataclass(frozen=True, kw_only=True)
class TableLatency:
    """Operators from the table, all others from the preset; one factor for each of the two.

    `relative_error_95` and `held_out_mape` come from networks; without any they are the preset's
    and None.
    """

    preset: RooflineLatency
    entries: tuple[TableEntry, ...]
    table_factor: float = 1.0
    rest_factor: float = 1.0
    relative_error_95: float
    held_out_mape: float | None = None
    networks: int = 0
    fingerprint: str

    @property
    def source(self) -> str:
        """Number of entries, device, threads, networks, factors and fingerprint."""
        return (
            f"table of {len(self.entries)} operators for {self.device.name} "
            f"threads={self.preset.threads} networks={self.networks} "
            f"factors={self.table_factor:.6g},{self.rest_factor:.6g} on {self.fingerprint}"
        )

    @property
    def device(self) -> Device:
        """The device of the preset."""
        return self.preset.device

    @property
    def run_s(self) -> float:
        """Seconds that every run takes before its first operator: the preset's, scaled."""
        return self.rest_factor * self.preset.run_s

    def predict(self, work: Work) -> Estimate:
        """Latency of `work` with its 95 % interval."""
        return self.predict_many((work,))[0]

    def predict_many(self, works: Sequence[Work]) -> Estimates:
        """Latencies of a population with their 95 % intervals."""
        value_s = np.array([self.run_s + self.operators_s(work).sum() for work in works])
        return estimates_of(self, value_s, works, self.held_out_mape)

    def predict_ratio(self, work: Work, baseline: Work) -> Ratio:
        """Latency of `work` over that of `baseline`."""
        return independent_ratio(self.predict(work), self.predict(baseline))

    def operators_s(self, work: Work, level: int | None = None) -> Array:
        """Seconds (operators,) of each operator, from table or preset, factors applied."""
        table_s, rest_s = self.split_s(work, level)
        return self.table_factor * table_s + self.rest_factor * rest_s

    def interval(self, value_s: Array, mixes: Indices) -> tuple[Array, Array]:
        """Lower and upper ends by `relative_error_95`, whatever the mixes."""
        return symmetric(value_s, self.relative_error_95)

    def split_s(self, work: Work, level: int | None = None) -> tuple[Array, Array]:
        """Seconds (operators,) of what the table answers for, and of all else; no factors."""
        rest_s = self.preset.operators_s(work, level).tolist()
        table_s = [0.0] * len(rest_s)
        for index, op in enumerate(work.operators):
            if op.kind in PRODUCTS:
                table_s[index] = self.look_up_s(op, rest_s[index])
                rest_s[index] = 0.0
        return np.array(table_s), np.array(rest_s)

    def look_up_s(self, op: OperatorWork | Signature, preset_s: float) -> float:
        """Seconds of an operator: its own entry, between its neighbours, or the preset scaled."""
        # A plain tuple: making and hashing a record takes longer than the whole answer.
        wanted: Key = _FIELDS(op)
        answers = self._answers
        if wanted not in answers:
            answers[wanted] = self._answer(signature(op))
        seconds, ratio = answers[wanted]
        return preset_s * ratio if seconds is None else seconds

    def _answer(self, wanted: Signature) -> tuple[float | None, float]:
        """Seconds where the table knows them, and else what to scale the preset with."""
        if wanted in self._seconds:
            return self._seconds[wanted], 1.0
        step = self._by_step.get(self._step(wanted))
        if step is None:
            return None, self._ratio(wanted)
        sizes, logs = step
        size = wanted.in_channels * wanted.out_channels
        return math.exp(float(np.interp(size, sizes, logs))), 1.0

    @functools.cached_property
    def _answers(self) -> dict[Key, tuple[float | None, float]]:
        return {}

    @functools.cached_property
    def _seconds(self) -> Mapping[Signature, float]:
        return {entry.signature: entry.seconds for entry in self.entries}

    @functools.cached_property
    def _by_step(self) -> Mapping[Key, tuple[Array, Array]]:
        """Sizes and logarithms of seconds of the entries of each alignment step."""
        found: dict[Key, list[tuple[int, float]]] = {}
        for entry in self.entries:
            size = entry.signature.in_channels * entry.signature.out_channels
            row = (size, math.log(entry.seconds))
            found.setdefault(self._step(entry.signature), []).append(row)
        return {
            key: (np.array([s for s, _ in rows]), np.array([x for _, x in rows]))
            for key, rows in ((key, sorted(rows)) for key, rows in found.items())
        }

    def _step(self, wanted: Signature) -> Key:
        alignment = self.device.alignment
        into = alignment.int8_in_block if wanted.integer else alignment.float_block
        out = alignment.int8_out_block if wanted.integer else alignment.float_block
        channels = (wanted.in_channels, wanted.out_channels)
        odd = tuple(count % alignment.multiple != 0 for count in channels)
        return (*wanted.shape, -(-channels[0] // into), -(-channels[1] // out), odd)

    def _ratio(self, wanted: Signature) -> float:
        """How the table compares with the preset on operators of this kind; else on all."""
        alike = (wanted.kind, wanted.integer)
        ratios = self._ratios.get(alike) or [r for each in self._ratios.values() for r in each]
        return math.exp(float(np.mean(ratios))) if ratios else 1.0

    @functools.cached_property
    def _ratios(self) -> Mapping[tuple[str, bool], list[float]]:
        found: dict[tuple[str, bool], list[float]] = {}
        for entry in self.entries:
            alike = (entry.signature.kind, entry.signature.integer)
            found.setdefault(alike, []).append(math.log(entry.seconds / entry.preset_s))
        return found

    def to_json(self) -> dict[str, Json]:
        """A JSON-ready description, the device included."""
        return {
            "kind": "table",
            "preset": self.preset.to_json(),
            "entries": [asdict(entry) for entry in self.entries],
            "table_factor": self.table_factor,
            "rest_factor": self.rest_factor,
            "relative_error_95": self.relative_error_95,
            "held_out_mape": self.held_out_mape,
            "networks": self.networks,
            "fingerprint": self.fingerprint,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TableLatency:
        """The model that `to_json` wrote."""
        known = {name: value for name, value in data.items() if name != "kind"}
        known["preset"] = RooflineLatency.from_json(data["preset"])
        known["entries"] = tuple(_entry(entry) for entry in data["entries"])
        return cls(**known)


def naive_table(
    preset: RooflineLatency, entries: Sequence[TableEntry], fingerprint: str
) -> TableLatency:
    """The plain sum of measured operators and the preset's rest; no network was measured."""
    return TableLatency(
        preset=preset,
        entries=tuple(entries),
        relative_error_95=preset.device.relative_error_95.value,
        fingerprint=fingerprint,
    )


def fit_table(
    table: TableLatency, works: Sequence[Work], measured_s: Sequence[float]
) -> TableLatency:
    """The table with two factors fitted to measured networks, and their held-out error.

    Raises:
        CalibrationError: Fewer than 5 networks, unequal counts, or a latency that is not positive.
    """
    times = np.asarray(measured_s, dtype=np.float64)
    check_measurements(len(works), times, fewest=5)
    rows = []
    for work in works:
        table_s, rest_s = table.split_s(work)
        rows.append((table_s.sum(), rest_s.sum() + table.preset.run_s))
    columns = np.array(rows)
    errors = np.abs(held_out_errors(columns, times, _predict))
    factors = _two_factors(columns, times)
    return TableLatency(
        preset=table.preset,
        entries=table.entries,
        table_factor=float(factors[0]),
        rest_factor=float(factors[1]),
        relative_error_95=bound_95(errors, table.device.relative_error_95.value),
        held_out_mape=float(errors.mean()),
        networks=len(times),
        fingerprint=table.fingerprint,
    )


def _predict(columns: Array, times_s: Array, held: Array) -> Array:
    return np.asarray(held @ _two_factors(columns, times_s))


def _two_factors(columns: Array, times_s: Array) -> Array:
    factors, _ = nnls(columns / times_s[:, None], np.ones(len(times_s)))
    return np.asarray(factors, dtype=np.float64)


def _entry(data: Mapping[str, Any]) -> TableEntry:
    fields = dict(data["signature"])
    for name in ("kernel_size", "stride"):
        fields[name] = tuple(fields[name])
    return TableEntry(
        signature=Signature(**fields), seconds=data["seconds"], preset_s=data["preset_s"]
    )
