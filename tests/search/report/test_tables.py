"""What `devices` prints, every knob with its confidence, and what a front's table names."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console, RenderableType

from paredown.hardware_models.devices.device import list_devices, load_device
from paredown.hardware_models.devices.gains import Gains
from paredown.search.report.tables import device_details, device_table, front_table
from paredown.search.study.evaluation import Evaluation, Goal
from paredown.spaces.candidates.candidate import Candidate


def printed(what: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=250)
    console.print(what)
    return console.file.getvalue()


@pytest.mark.parametrize("name", list_devices())
def test_every_knob_and_kernel_is_told_with_its_confidence(name: str) -> None:
    device = load_device(name)
    lines = printed(device_details(device)).splitlines()
    (head,) = [index for index, line in enumerate(lines) if line.startswith("knob")]
    told = lines[head + 1 : head + 1 + len(Gains.model_fields)]
    for line, field in zip(told, Gains.model_fields, strict=True):
        assert getattr(device.gains, field).confidence in line
    assert all(any(kernel.name in line for line in lines) for kernel in device.kernels)
    assert any("was not measured" in line for line in lines) == bool(device.caveat)


def test_gains_read_as_speed_bytes_or_nothing() -> None:
    text = printed(device_details(load_device("x86-avx512-vnni-ort")))
    assert "speed 1.1–4.4×" in text
    assert "bytes only" in text
    assert "bytes, speed 0.7–0.95×" in printed(device_details(load_device("stm32h743-cmix-nn")))
    assert "unsupported" in printed(device_details(load_device("imx500-like-sensor")))


def test_the_list_names_every_device_and_this_machine() -> None:
    devices = [load_device(name) for name in list_devices()]
    text = printed(device_table(devices, "rpi5-a76-ort"))
    assert all(name in text for name in list_devices())
    (line,) = [line for line in text.splitlines() if "this machine" in line]
    assert line.startswith("rpi5-a76-ort")


def test_a_front_names_the_architectures_where_there_are_several(
    make_evaluations: Callable[[int], tuple[Evaluation, ...]], goals: tuple[Goal, ...]
) -> None:
    one, two = (e for e in make_evaluations(8)[3:] if not e.is_failed), None
    members = list(one)[:2]
    assert "architecture" not in printed(front_table(members, goals))
    two = replace(members[1], candidate=Candidate(architecture="small"))
    told = printed(front_table([members[0], two], goals))
    assert "architecture" in told
    (line,) = [line for line in told.splitlines() if line.startswith(two.key)]
    assert line.split()[1] == "small"
