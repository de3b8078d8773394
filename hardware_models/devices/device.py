"""Targets: what a device and its runtime can do, read from data files with sources.

A device is hardware, runtime and runtime version together: the same chip differs twentyfold
between runtimes. Every figure says where it comes from and how far it can be trusted.
"""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from paredown.hardware_models.devices.caches import cache_bytes
from paredown.hardware_models.devices.figures import Confidence, Overhead, Rate, Record
from paredown.hardware_models.devices.gains import WEIGHT_BITS, Energy, Gains, Kernel, Offers
from paredown.spaces.system.bounded import YAML_BYTES, UnreadableTextError, parse_yaml, read_text
from paredown.spaces.system.errors import ParedownError
from paredown.spaces.system.json_values import Json

DEVICES = Path(__file__).parent
HOST = "host"


class DeviceError(ParedownError):
    """A device is unknown, or its file breaks the schema."""


class Runtime(Record):
    """The runtime the figures hold for; `max_threads` is the number of cores it may use."""

    name: str
    versions: str
    verified_with: str | None
    max_threads: int = Field(ge=1)
    thread_efficiency: Rate


class Compute(Record):
    """Reachable rates of one thread at one precision, in MACs of padded channels.

    `misaligned_macs_per_s` and `im2col_elements_per_s` hold where the fast layout cannot be used.
    `two_of_four_speedup` is a dense product's time over that with 2:4 weights, None where their
    zeros are computed with.
    """

    conv_macs_per_s: Rate
    depthwise_macs_per_s: Rate
    linear_macs_per_s: Rate
    misaligned_macs_per_s: Rate
    im2col_elements_per_s: Rate
    two_of_four_speedup: Rate | None = None


class Level(Record):
    """A level of the memory: `size_bytes` None is the last, unbounded one."""

    name: str
    size_bytes: int | None
    bytes_per_s: Rate


class Memory(Record):
    """Levels from the fastest to the slowest, and budgets (None: no limit of its own).

    `float_block_channels` is the multiple to which the runtime pads the channels of float images in
    memory; 1 where they lie plain.
    """

    levels: tuple[Level, ...] = Field(min_length=1)
    float_block_channels: int = Field(ge=1)
    weight_budget_bytes: int | None
    activation_budget_bytes: int | None


class Overheads(Record):
    """Seconds per run and per operator call that do not depend on sizes."""

    run_s: Overhead
    float_conv_s: Overhead
    float_pointwise_s: Overhead
    float_depthwise_s: Overhead
    int8_conv_s: Overhead
    int8_pointwise_s: Overhead
    int8_depthwise_s: Overhead
    other_s: Overhead


class Elements(Record):
    """Seconds per element of operators that are not matrix products."""

    add_s: Overhead
    activation_s: Overhead
    norm_s: Overhead
    softmax_s: Overhead
    pool_s: Overhead
    move_s: Overhead


class Edges(Record):
    """Seconds where precision or layout changes, per change and per element.

    The last two are for weights that are dequantised on every run.
    """

    quantize_s: Overhead
    quantize_element_s: Overhead
    reorder_s: Overhead
    reorder_element_s: Overhead
    int8_weight_element_s: Overhead
    int4_weight_element_s: Overhead


class Alignment(Record):
    """Multiples of channels: `block` is padded to, `multiple` keeps the fast layout."""

    float_block: int = Field(ge=1)
    int8_in_block: int = Field(ge=1)
    int8_out_block: int = Field(ge=1)
    multiple: int = Field(ge=1)
    width_step: int = Field(ge=1)
    rank_step: int = Field(ge=1)
    source: str = Field(min_length=3)
    confidence: Confidence


class Device(Record):
    """One target.

    In 95 % of networks the preset errs by at most `relative_error_95` once the speed of the
    machine is known, and that speed lies within a factor of `scale_factor_95` of the preset's.
    """

    schema_version: Literal[1]
    name: str
    title: str
    runtime: Runtime
    host_cpu_flags: tuple[str, ...]
    float32: Compute
    int8: Compute
    memory: Memory
    overheads: Overheads
    elements: Elements
    edges: Edges
    alignment: Alignment
    offers: Offers
    kernels: tuple[Kernel, ...] = Field(min_length=1)
    gains: Gains
    energy: Energy
    relative_error_95: Rate
    scale_factor_95: Rate

    @model_validator(mode="after")
    def _fast_widths_have_kernels(self) -> Device:
        for bits in WEIGHT_BITS:
            gain = self.gains.of_bits(bits)
            held = max(
                bits, 2
            )  # a kernel reads 1-bit weights as the 2-bit integers that hold them
            runs = any(held in kernel.weight_bits for kernel in self.kernels)
            if gain.effect in ("baseline", "faster") and not runs:
                raise ValueError(
                    f"gains: {bits}-bit weights are said to be {gain.effect}, but no kernel reads "
                    "them; add the kernel or say bytes_only"
                )
        return self

    @functools.cached_property
    def confidences(self) -> Counter[Confidence]:
        """How many of the file's figures are measured, of a datasheet, derived or guessed."""
        return Counter(_confidences(self.model_dump()))

    @property
    def caveat(self) -> str:
        """What every report must say of the preset's figures; "" where most are measured."""
        found = self.confidences
        weak = found["derived"] + found["guess"]
        if weak <= found["measured"]:
            return ""
        return (
            f"the preset {self.name} was not measured: {weak} of its {found.total()} figures are "
            "derived or guessed, so it ranks models and its seconds are rough"
        )


def load_device(name_or_path: str | Path) -> Device:
    """A shipped device by name, this machine ("host"), or a device file of one's own.

    Raises:
        DeviceError: No such device, the file breaks the schema, or this machine has no preset.
    """
    if str(name_or_path) == HOST:
        return host_device()
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = DEVICES / f"{name_or_path}.yaml"
    if not path.is_file():
        raise DeviceError(
            f"a device is {HOST!r}, a shipped name or a YAML file, got {str(name_or_path)!r}; "
            f"shipped: {', '.join(list_devices())}"
        )
    try:
        return _read(read_text(path, YAML_BYTES))
    except (ValidationError, UnreadableTextError) as error:
        raise DeviceError(f"{path.name} is not a device file: {error}") from error


@functools.lru_cache(maxsize=64)
def _read(text: str) -> Device:
    """The device in a file's text; kept, because finding the host reads all that ship."""
    return Device.model_validate(parse_yaml(text))


def list_devices() -> tuple[str, ...]:
    """Names of the shipped devices, sorted."""
    return tuple(sorted(path.stem for path in DEVICES.glob("*.yaml")))


def host_device(cpuinfo: str | None = None) -> Device:
    """The shipped device whose CPU flags this machine has, most flags first, with its own caches.

    Args:
        cpuinfo: Text in the format of Linux's /proc/cpuinfo; None reads this machine's. The preset's
            caches stay with a text.

    Raises:
        DeviceError: No preset fits; the message names the nearest.
    """
    flags = _cpu_flags(cpuinfo)
    candidates = [
        device for name in list_devices() if (device := load_device(name)).host_cpu_flags
    ]
    candidates.sort(key=lambda device: -len(device.host_cpu_flags))
    for device in candidates:
        if flags >= set(device.host_cpu_flags):
            return device if cpuinfo is not None else with_caches(device, cache_bytes())
    nearest = min(candidates, key=lambda device: len(set(device.host_cpu_flags) - flags))
    missing = sorted(set(nearest.host_cpu_flags) - flags)
    raise DeviceError(
        f"no shipped device describes this machine (nearest: {nearest.name}, CPU flags missing: "
        f"{', '.join(missing)}); name a device instead of {HOST!r}, say {nearest.name!r}, "
        "or give a device file of your own"
    )


def with_caches(device: Device, size_bytes: Mapping[str, int]) -> Device:
    """The device with caches of these sizes by name; levels that are not named stay."""
    levels = [
        level.model_copy(update={"size_bytes": size_bytes.get(level.name, level.size_bytes)})
        for level in device.memory.levels
    ]
    return device.model_copy(
        update={"memory": device.memory.model_copy(update={"levels": tuple(levels)})}
    )


def _confidences(part: Json) -> Iterator[Confidence]:
    if isinstance(part, dict):
        if "confidence" in part:
            yield part["confidence"]
        part = tuple(part.values())
    if isinstance(part, tuple | list):
        for inner in part:
            yield from _confidences(inner)


def _cpu_flags(cpuinfo: str | None) -> set[str]:
    if cpuinfo is None:
        if not sys.platform.startswith("linux"):
            raise DeviceError(
                f"{HOST!r} is recognised on Linux only, this is {sys.platform}; name a device: "
                f"{', '.join(list_devices())}"
            )
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return set(value.split())
    return set()
