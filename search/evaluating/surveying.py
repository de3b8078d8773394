"""What a config names, read before a search: networks, device and space.

Some rows are run through each network and its graph, to hold one against the other; the calibration
split only where a rule asks for ranks by their error.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from paredown.hardware_models.devices.device import Device, DeviceError, load_device
from paredown.hardware_models.devices.offered import capabilities
from paredown.hardware_models.pricing.costs import WEIGHT_MEMORY, has_weight_memory
from paredown.search.config.schema import Config
from paredown.search.config.schema_hardware import AxesSection
from paredown.search.evaluating.computing_device import computing_device
from paredown.search.evaluating.holding import held_rows
from paredown.search.space.found_ranks import FindRanks, FoundRanks, read_ranks
from paredown.search.space.space_rules import build_space
from paredown.search.tasks.collecting import Collected
from paredown.search.tasks.splits import of_length
from paredown.search.tasks.task import Task, TaskError, load_task
from paredown.spaces.candidates.capabilities import Capabilities, joint
from paredown.spaces.capture.capturing import Captured, CaptureError, capture
from paredown.spaces.capture.hold import check_graph, check_repeatable
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.space import Space
from paredown.spaces.structure.model_map import ModelMap
from paredown.spaces.structure.reading import read_model_map


@dataclass(frozen=True, kw_only=True)
class Surveyed:
    """A config's model before it is searched: enough to inspect and to price.

    `ranks` has what was found for rules with `rank_error`; `collected` gives calibration statistics,
    which are collected when they are first asked for. `computes_on` is what `search.device` names;
    `device` what the result is for.
    """

    config: Config
    task: Task
    captured: Mapping[str, Captured]
    space: Space
    device: Device
    computes_on: torch.device
    also: tuple[Device, ...]
    offered: Capabilities
    collected: Collected
    ranks: FoundRanks


def survey(config: Config, ranks_file: Path | None = None) -> Surveyed:
    """Reads the task, the networks and the device, and draws the space.

    Args:
        ranks_file: Ranks that a run was begun with, which are taken as they are.

    Raises:
        TaskError, DataError, UserCodeError, CaptureError, DeviceError, SpaceError, RankFileError:
            What the config names cannot be used.
    """

    def _draw(maps: Mapping[str, ModelMap], offered: Capabilities, find: FindRanks) -> Space:
        goals = [goal.metric for goal in config.goals]
        return build_space(config.space, maps, offered, goals, find)

    return _survey(config, None, _draw, ranks_file)


def survey_part(config: Config, architectures: Collection[str]) -> Surveyed:
    """The reference and these architectures alone, with no knob drawn: enough to price and export.

    Raises:
        TaskError, DataError, UserCodeError, CaptureError, DeviceError: As `survey`.
    """

    def _without_knobs(maps: Mapping[str, ModelMap], _: Capabilities, __: FindRanks) -> Space:
        parts = (Architecture(name=name, model_map=m, knobs=()) for name, m in maps.items())
        return Space(architectures=tuple(parts))

    return _survey(config, architectures, _without_knobs, None)


def _further_device(name_or_path: str) -> Device:
    device = load_device(name_or_path)
    named = Path(name_or_path).stem
    if device.name != named:  # its metric was checked by the file's name, before the file was read
        raise DeviceError(
            f"a device file in hardware.also must be named after its device, got {name_or_path} "
            f"with the name {device.name!r}; set `name: {named}` in it, or rename the file"
        )
    return device


def _check_goals(config: Config, device: Device) -> None:
    for index, goal in enumerate(config.goals):
        if goal.metric == WEIGHT_MEMORY and not has_weight_memory(device):
            raise DeviceError(
                f"goals[{index}].metric: {goal.metric} is known for devices that run ONNX Runtime, "
                f"{device.name} runs {device.runtime.name}; take packed_bytes, or another device"
            )


def _held(module: nn.Module, task: Task, axes: AxesSection) -> Captured:
    """The module's graph, which gives on real rows what the module gives."""
    rows = held_rows(task)
    check_repeatable(module, rows)
    lengths = None if axes.time is None else axes.time.lengths
    captured = capture(module, task.example, lengths)
    if lengths and not captured.graph.timed:
        raise CaptureError(
            f"{type(module).__name__} must take inputs of any length, as hardware.axes.time says, got a "
            "forward that takes the example's alone; leave out hardware.axes.time"
        )
    for length in lengths or ():
        check_graph(module, captured, of_length(rows, length), task.form.tensors)
    check_graph(module, captured, rows, task.form.tensors)
    return replace(captured, graph=replace(captured.graph, any_batch=axes.batch is not None))


def _survey(
    config: Config,
    architectures: Collection[str] | None,
    draw: Callable[[Mapping[str, ModelMap], Capabilities, FindRanks], Space],
    ranks_file: Path | None,
) -> Surveyed:
    computes_on = computing_device(config.search)
    task = load_task(config)
    device = load_device(config.hardware.device)
    _check_goals(config, device)
    also = tuple(_further_device(name) for name in config.hardware.also)
    first = next(iter(task.modules))
    captured = {
        name: _held(module, task, config.hardware.axes)
        for name, module in task.modules.items()
        if architectures is None or name == first or name in architectures
    }
    maps = {name: read_model_map(each) for name, each in captured.items()}
    if not maps[first].layers:
        reasons = "".join(f"; {each.what}: {each.reason}" for each in maps[first].left_out[:3])
        raise TaskError(
            "task.model: a network must have a layer to compress (Linear, Embedding or a convolution), "
            f"got none in {type(task.module).__name__}{reasons}"
        )
    offered = joint([capabilities(each) for each in (device, *also)])
    collected = Collected(config, task, captured, maps, computes_on)
    ranks = FoundRanks(captured, collected, read_ranks(ranks_file))
    return Surveyed(
        config=config,
        task=task,
        captured=captured,
        space=draw(maps, offered, ranks.of),
        device=device,
        computes_on=computes_on,
        also=also,
        offered=offered,
        collected=collected,
        ranks=ranks,
    )
