"""Calibration as one thing: statistics and ranges of a model, collected once and kept on disk."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from paredown.compressors.statistics.layer_statistics import (
    LayerStatistics,
    Loss,
    Target,
    collect_statistics,
)
from paredown.compressors.statistics.ranges import Range, RangeCollector
from paredown.compressors.storage.shelf import Record, Shelf, code_version, digest
from paredown.compressors.storage.stored import CPU
from paredown.spaces.graph.graph import Graph
from paredown.spaces.graph.graph_json import to_json
from paredown.spaces.structure.model_map import Layer
from paredown.spaces.structure.side_values import uncoded_values


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Statistics by layer name, and ranges by value name."""

    statistics: Mapping[str, LayerStatistics]
    ranges: Mapping[str, Range]


@dataclass(frozen=True, kw_only=True)
class CalibrationData:
    """What is run through a model to learn about it.

    `batches` holds inputs in the order of `graph.inputs`, `targets` one target a batch or None for
    labels drawn with `seed`; see `collect_statistics`, of `loss` too. All lie on `device`, where the
    model runs. `loss_digest` stands for the loss's code: two losses of the same digest must be the same.
    `real` says of each batch which positions (batch, time) are not padding; None where no row is padded.
    """

    batches: Sequence[list[Tensor]]
    targets: Sequence[Target] | None
    loss: Loss
    loss_digest: str
    seed: int
    real: Sequence[Tensor] | None = None
    device: torch.device = CPU


def calibrate(
    graph: Graph,
    tensors: Mapping[str, Tensor],
    layers: Sequence[Layer],
    data: CalibrationData,
    shelf: Shelf | None,
) -> Calibration:
    """From the shelf if these very tensors and data were there before, else collected and kept.

    The model runs on the device of the data; what comes of it lies on the CPU.

    Raises:
        StatisticsError: No batch, or values that are not finite.
    """
    if shelf is None:
        return _collect(graph, tensors, layers, data)
    key = _key(graph, tensors, layers, data)
    record = shelf.get(key)
    if record is not None:
        return _from_record(record)
    found = _collect(graph, tensors, layers, data)
    shelf.put(key, _to_record(found))
    return found


def _collect(
    graph: Graph, tensors: Mapping[str, Tensor], layers: Sequence[Layer], data: CalibrationData
) -> Calibration:
    ranges = RangeCollector(uncoded_values(graph, tensors))
    statistics = collect_statistics(
        graph,
        {name: tensor.to(data.device) for name, tensor in tensors.items()},
        layers,
        data.batches,
        data.loss,
        data.targets,
        data.seed,
        watch=ranges.note,
        real=data.real,
    )
    kept = {name: found.to(CPU) for name, found in statistics.items()}
    return Calibration(statistics=kept, ranges=ranges.found())


def _key(
    graph: Graph, tensors: Mapping[str, Tensor], layers: Sequence[Layer], data: CalibrationData
) -> str:
    parts: list[str | Tensor] = [code_version(), json.dumps(to_json(graph)), repr(layers)]
    for name in sorted(tensors):
        parts += [name, tensors[name]]
    for batch in data.batches:
        parts += batch
    parts += ["targets", *(_parts(data.targets) if data.targets is not None else ())]
    if data.real is not None:
        parts += ["real", *data.real]
    return digest(*parts, data.loss_digest, str(data.seed), data.device.type)


def _parts(value: Target | Sequence[Target]) -> Iterable[str | Tensor]:
    """The tensors of nested targets, and marks of how they are nested."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        yield f"{len(value)}"
        for item in value:
            yield from _parts(item)
    else:
        yield repr(value)


def _to_record(found: Calibration) -> Record:
    held: dict[str, Tensor] = {}
    plain: dict[str, dict[str, Any]] = {}
    for layer, statistics in found.statistics.items():
        values = {f.name: getattr(statistics, f.name) for f in fields(statistics)}
        held |= {f"{layer}/{n}": v for n, v in values.items() if isinstance(v, Tensor)}
        plain[layer] = {n: v for n, v in values.items() if not isinstance(v, Tensor)}
    ranges = {
        name: {f.name: getattr(r, f.name) for f in fields(r)} for name, r in found.ranges.items()
    }
    return Record(tensors=held, facts={"layers": plain, "ranges": ranges})


def _from_record(record: Record) -> Calibration:
    values: dict[str, dict[str, Any]] = {n: dict(v) for n, v in record.facts["layers"].items()}
    for name, tensor in record.tensors.items():
        layer, _, field = name.rpartition("/")
        values[layer][field] = tensor
    return Calibration(
        statistics={name: LayerStatistics(**found) for name, found in values.items()},
        ranges={name: Range(**ends) for name, ends in record.facts["ranges"].items()},
    )
