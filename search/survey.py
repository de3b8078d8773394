"""What a config names, read before any data is run through it: networks, device and space."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from paredown.hardware_models.costs import WEIGHT_MEMORY, has_weight_memory
from paredown.hardware_models.device import Device, DeviceError, load_device
from paredown.hardware_models.offered import capabilities
from paredown.search.schema import Config
from paredown.search.space_rules import build_space
from paredown.search.tasks import Task, load_task
from paredown.spaces.capabilities import Capabilities, joint
from paredown.spaces.capture import Captured, capture
from paredown.spaces.model_map import ModelMap
from paredown.spaces.read import read_model_map
from paredown.spaces.space import Architecture, Space


@dataclass(frozen=True, kw_only=True)
class Surveyed:
    """A config's model before any data was run through it: enough to inspect and to price."""

    config: Config
    task: Task
    captured: Mapping[str, Captured]
    space: Space
    device: Device
    also: tuple[Device, ...]
    offered: Capabilities


def survey(config: Config) -> Surveyed:
    """Reads the task, the networks and the device, and draws the space; no statistics yet.

    Raises:
        TaskError, DataError, UserCodeError, CaptureError, DeviceError, SpaceError: What the config
            names cannot be used.
    """

    def draw(maps: Mapping[str, ModelMap], offered: Capabilities) -> Space:
        return build_space(config.space, maps, offered, [goal.metric for goal in config.goals])

    return _survey(config, None, draw)


def survey_part(config: Config, architectures: Collection[str]) -> Surveyed:
    """The reference and these architectures alone, with no knob drawn: enough to price and export.

    Raises:
        TaskError, DataError, UserCodeError, CaptureError, DeviceError: As `survey`.
    """

    def without_knobs(maps: Mapping[str, ModelMap], _: Capabilities) -> Space:
        parts = (Architecture(name=name, model_map=m, knobs=()) for name, m in maps.items())
        return Space(architectures=tuple(parts))

    return _survey(config, architectures, without_knobs)


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


def _survey(
    config: Config,
    architectures: Collection[str] | None,
    draw: Callable[[Mapping[str, ModelMap], Capabilities], Space],
) -> Surveyed:
    task = load_task(config)
    device = load_device(config.hardware.device)
    _check_goals(config, device)
    also = tuple(_further_device(name) for name in config.hardware.also)
    first = next(iter(task.modules))
    captured = {
        name: capture(module, task.example)
        for name, module in task.modules.items()
        if architectures is None or name == first or name in architectures
    }
    maps = {name: read_model_map(each) for name, each in captured.items()}
    offered = joint([capabilities(each) for each in (device, *also)])
    return Surveyed(
        config=config,
        task=task,
        captured=captured,
        space=draw(maps, offered),
        device=device,
        also=also,
        offered=offered,
    )
