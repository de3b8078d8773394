"""What a run's evaluations are about: facts that must stay the same when a run is resumed.

Scores and prices of two problems are never compared, so a resumption holds these facts against
those that the study was begun with. How long and by whom it is searched may change freely.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from paredown.compressors.storage.shelf import digest
from paredown.hardware_models.devices.device import Device
from paredown.search.config.schema import Config, CustomTask
from paredown.search.config.schema_hardware import LATENCY_MODELS
from paredown.search.evaluating.workbench import Workbench
from paredown.search.tasks.splits import Split
from paredown.search.tasks.user_code import code_digest
from paredown.spaces.graph.graph_json import to_json
from paredown.spaces.structure.quantized_values import mark_quantized


def problem(workbench: Workbench) -> dict[str, str]:
    """Facts by name: plain values where they are short, digests of everything else."""
    config, splits = workbench.config, workbench.task.splits
    task = config.task
    metric = task.metric if isinstance(task, CustomTask) else task.metric_name
    return {
        "network or weights": _networks(workbench),
        "segments or rules of 8-bit values": _segments(workbench),
        "search split": digest(*_rows(splits.search)),
        "calibration split": digest(*_rows(splits.calibration)),
        "metric": _function(config, metric),
        "loss": _function(config, workbench.task.loss_name),
        "search.seed": str(config.search.seed),
        "search.rung_images": str(min(config.search.rung_images, len(splits.search))),
        "hardware.batch_size": str(config.hardware.priced_batch),
        "hardware.threads": str(config.hardware.threads),
        "hardware.device": _device(workbench.device),
        "hardware.also": ", ".join(_device(each) for each in workbench.also),
        "hardware.latency": _latency(workbench),
    }


def _networks(workbench: Workbench) -> str:
    parts: list[str | Tensor] = []
    for name, database in workbench.databases.items():
        parts += [name, json.dumps(to_json(database.model_map.graph))]
        for tensor in sorted(database.tensors):
            parts += [tensor, database.tensors[tensor]]
    return digest(*parts)


def _segments(workbench: Workbench) -> str:
    """What segments there are, and where their values are codes if all compute in 8 bits."""
    parts: list[str] = []
    for name, database in workbench.databases.items():
        model_map = database.model_map
        marked = mark_quantized(model_map.graph, lambda _: True, None, model_map.masked)
        parts += [name, repr(model_map.segments), json.dumps(to_json(marked))]
    return digest(*parts)


def _rows(split: Split) -> Iterable[str | Tensor]:
    yield ", ".join(split.names)
    yield from split.inputs
    yield "targets"
    yield from split.targets if isinstance(split.targets, tuple) else (split.targets,)


def _function(config: Config, name: str) -> str:
    """A built-in function's name; with the user's own, a digest of its code."""
    if ":" not in name or not isinstance(config.task, CustomTask):
        return name
    return f"{name} {code_digest(name, config.task.code_folder) or ''}".rstrip()


def _device(device: Device) -> str:
    return f"{device.name} {digest(device.model_dump_json())}"


def _latency(workbench: Workbench) -> str:
    kind = workbench.config.hardware.latency
    model = workbench.cost_models.latency_model.to_json()
    name = kind if kind in LATENCY_MODELS else Path(kind).name
    return f"{name} {digest(json.dumps(model, sort_keys=True))}"
