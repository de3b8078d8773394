"""The command `paredown calibrate`: measure a machine, here or by a folder that travels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paredown.search.cli.application import progress

if TYPE_CHECKING:
    from paredown.hardware_models.devices.device import Device
    from paredown.search.calibrating.families import Family
    from paredown.search.calibrating.fitting import Calibration, Request
    from paredown.search.config.reading import Config
    from paredown.search.report.terminal import Terminal

EXAMPLES = (
    "paredown calibrate examples/digits.yaml",
    "paredown calibrate --families cnn,mobile --networks 80",
    "paredown calibrate my.yaml --write for_the_board",
    "paredown calibrate my.yaml --read for_the_board",
)


Config_ = Annotated[
    Path | None, typer.Argument(metavar="CONFIG", help="The config whose space is measured.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Replace a setting; may be given often."),
]
Families = Annotated[
    str | None, typer.Option(help="Instead of a config: cnn, mobile, mlp, transformer, recurrent.")
]
TargetDevice = Annotated[
    str | None,
    typer.Option("--device", help="With --families: the device; by default this machine."),
]
Networks = Annotated[
    int, typer.Option(min=5, max=5000, help="Networks to measure; 100 and more learn most.")
]
Threads = Annotated[
    int | None, typer.Option(min=1, max=1024, help="Threads; by default hardware.threads, or 1.")
]
Output = Annotated[
    Path | None, typer.Option(help="The calibration; by default NAME.calibration.json.")
]
Write = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Write what another machine is to time.")
]
Read = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Fit what another machine has timed.")
]


def calibrate(
    config: Config_ = None,
    overrides: Overrides = None,
    families: Families = None,
    target_device: TargetDevice = None,
    networks: Networks = 200,
    threads: Threads = None,
    output: Output = None,
    write: Write = None,
    read: Read = None,
) -> None:
    """Measure latency and fit a model to it, for hardware.latency of a config."""
    _check_options(config, families, target_device, write, read)
    from paredown.hardware_models.devices.device import load_device
    from paredown.search.config.reading import load_config

    checked = None if config is None else load_config(config, overrides or ())
    device = load_device((target_device or "host") if checked is None else checked.hardware.device)
    used = threads or (1 if checked is None else checked.hardware.threads)
    target = output or Path(f"{checked.name if checked else 'families'}.calibration.json")
    chosen = _families(families)
    console = progress()
    if read is not None:
        _conclude(_from_folder(read, checked, device), target, console)
        return
    with console.working("reading the networks") as notify:
        asked = _request(checked, chosen, networks, device, used, notify)
        if write is None:
            calibration = _measured(asked, notify)
        else:
            _write(asked, write)
    if write is None:
        _conclude(calibration, target, console)
    else:
        given = f"--families {families} --device {device.name}" if config is None else str(config)
        _say_what_is_next(len(asked.networks), write, given, console)


def _check_options(
    config: Path | None,
    families: str | None,
    device: str | None,
    write: Path | None,
    read: Path | None,
) -> None:
    from paredown.hardware_models.latency.calibrated import CalibrationError

    if (config is None) == (families is None) or (write is not None and read is not None):
        raise CalibrationError(
            "calibrate takes a config or --families, and at most one of --write and --read; "
            "see: paredown calibrate --help"
        )
    if config is not None and device is not None:
        raise CalibrationError(
            "--device goes with --families, a config names its own; use --set hardware.device="
            f"{device}"
        )


def _families(text: str | None) -> tuple[Family, ...]:
    from paredown.hardware_models.latency.calibrated import CalibrationError
    from paredown.search.calibrating.families import FAMILIES

    names = [name.strip() for name in (text or "").split(",") if name.strip()]
    unknown = [name for name in names if name not in FAMILIES]
    if unknown or (text is not None and not names):
        raise CalibrationError(
            f"--families must be of {', '.join(FAMILIES)}, got {text!r}; separate them by commas"
        )
    return tuple(family for family in FAMILIES if family in names)


def _request(
    config: Config | None,
    families: tuple[Family, ...],
    count: int,
    device: Device,
    threads: int,
    notify: Callable[[str], None],
) -> Request:
    """The networks of the config's space, or of families."""
    from paredown.search.calibrating.drawing import family_networks
    from paredown.search.calibrating.fitting import Request
    from paredown.search.evaluating.surveying import survey

    if config is not None:
        return Request.of_space(survey(config).space, count, device, threads)
    drawn = family_networks(families, count, device, notify)
    return Request(networks=tuple(drawn), device=device, threads=threads)


def _measured(asked: Request, notify: Callable[[str], None]) -> Calibration:
    from paredown.search.calibrating.fitting import calibrate_here

    _check_here(asked.device)
    return calibrate_here(asked, notify)


def _write(asked: Request, folder: Path) -> None:
    from paredown.search.calibrating.remote import write_folder

    write_folder(folder, asked.networks, asked.device.name, asked.threads)


def _from_folder(folder: Path, config: Config | None, device: Device) -> Calibration:
    from paredown.search.calibrating.fitting import concluded
    from paredown.search.calibrating.remote import read_request
    from paredown.search.evaluating.surveying import survey

    space = None if config is None else survey(config).space
    return concluded(*read_request(folder, device, space))


def _check_here(device: Device) -> None:
    from paredown.hardware_models.devices.device import host_device
    from paredown.hardware_models.latency.calibrated import CalibrationError

    here = host_device().name
    if device.name != here:
        raise CalibrationError(
            f"this machine is {here}, the config's device is {device.name}; "
            "use --write to time the networks there"
        )


def _conclude(calibration: Calibration, target: Path, console: Terminal) -> None:
    """Writes the calibration and shows how good it is."""
    from paredown.hardware_models.latency.calibration_file import write_calibration
    from paredown.search.calibrating.fitting import summary_rows
    from paredown.search.report.tables import plain_table
    from paredown.search.report.terminal import styled

    write_calibration(target, calibration.model, calibration.report())
    for remark in calibration.state.remarks if calibration.state else ():
        console.print(styled(f"note: {remark}", "yellow"))
    for reason in calibration.left_out:
        console.print(styled(f"left out: {reason}", "yellow"))
    if calibration.probes:
        probes = plain_table("the device file claims", "ratio", "holds")
        for probe in calibration.probes:
            holds = "yes" if probe.holds else styled("no", "red")
            probes.add_row(probe.claim, f"{probe.ratio:.2f}", holds)
        console.print(probes)
        console.print()
    table = plain_table("on networks not fitted to", "model", "second timing")
    for name, (model, floor) in summary_rows(calibration).items():
        table.add_row(name, model, floor)
    console.print(table)
    console.print(calibration.model.source, style="dim", soft_wrap=True)
    console.print(
        f"written to {target}; use it with: --set hardware.latency={target}",
        soft_wrap=True,
    )


def _say_what_is_next(count: int, folder: Path, given: str, console: Terminal) -> None:
    console.print(
        f"{count} networks written. On the device: python {folder.name}/time_models.py\n"
        f"With its timings.csv back here: paredown calibrate {given} --read {folder}",
        soft_wrap=True,
    )
