"""The command `paredown calibrate`: measure a machine, here or by a folder that travels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paredown.search.cli.application import progress

if TYPE_CHECKING:
    from paredown.hardware_models.devices.device import Device
    from paredown.hardware_models.work.workload import Work
    from paredown.search.calibrating.families import Family
    from paredown.search.calibrating.fitting import Calibration, Network
    from paredown.search.config.reading import Config
    from paredown.search.report.terminal import Terminal

EXAMPLES = (
    "paredown calibrate examples/digits.yaml",
    "paredown calibrate --families cnn,mobile --networks 80",
    "paredown calibrate my.yaml --write for_the_board",
    "paredown calibrate my.yaml --read for_the_board",
)


def calibrate(
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="The config whose space is measured.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="A.B=C", help="Replace a setting; may be given often."),
    ] = None,
    families: Annotated[
        str | None,
        typer.Option(help="Instead of a config: cnn, mobile, mlp, transformer, recurrent."),
    ] = None,
    target_device: Annotated[
        str | None,
        typer.Option("--device", help="With --families: the device; by default this machine."),
    ] = None,
    networks: Annotated[
        int, typer.Option(min=5, max=5000, help="Networks to measure; 100 and more learn most.")
    ] = 200,
    threads: Annotated[
        int | None,
        typer.Option(min=1, max=1024, help="Threads; by default hardware.threads, or 1."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="The calibration; by default NAME.calibration.json.")
    ] = None,
    write: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write what another machine is to time.")
    ] = None,
    read: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Fit what another machine has timed.")
    ] = None,
) -> None:
    """Measure latency and fit a model to it, for hardware.latency of a config."""
    from paredown.hardware_models.latency.calibrated import CalibrationError

    if (config is None) == (families is None) or (write is not None and read is not None):
        raise CalibrationError(
            "calibrate takes a config or --families, and at most one of --write and --read; "
            "see: paredown calibrate --help"
        )
    if config is not None and target_device is not None:
        raise CalibrationError(
            "--device goes with --families, a config names its own; use --set hardware.device="
            f"{target_device}"
        )
    from paredown.hardware_models.devices.device import load_device
    from paredown.search.config.reading import load_config

    console = progress()
    checked = None if config is None else load_config(config, overrides or ())
    device = load_device((target_device or "host") if checked is None else checked.hardware.device)
    used = threads or (1 if checked is None else checked.hardware.threads)
    name = "families" if checked is None else checked.name
    target = output or Path(f"{name}.calibration.json")
    chosen = _families(families)
    if read is not None:
        _conclude(_from_folder(read, checked, device), target, console)
        return
    with console.working("reading the networks") as told:
        drawn, reference = _draw(checked, chosen, networks, device, told)
        if write is not None:
            from paredown.search.calibrating.remote import write_folder

            write_folder(write, drawn, device.name, used)
        else:
            _check_here(device)
            from paredown.search.calibrating.fitting import calibrate_here

            calibration = calibrate_here(drawn, device, used, told, reference)
    if write is None:
        _conclude(calibration, target, console)
        return
    given = f"--families {families} --device {device.name}" if config is None else str(config)
    console.print(
        f"{len(drawn)} networks written. On the device: python {write.name}/time_models.py\n"
        f"With its timings.csv back here: paredown calibrate {given} --read {write}",
        soft_wrap=True,
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


def _draw(
    config: Config | None,
    families: tuple[Family, ...],
    count: int,
    device: Device,
    told: Callable[[str], None],
) -> tuple[list[Network], Work | None]:
    """The networks to time, and the uncompressed one where they are of one space."""
    from paredown.search.calibrating.fitting import family_networks, space_networks
    from paredown.search.calibrating.latency_source import reference_work
    from paredown.search.evaluating.surveying import survey

    if config is None:
        return family_networks(families, count, device, told), None
    space = survey(config).space
    return space_networks(space, count), reference_work(space)


def _from_folder(folder: Path, config: Config | None, device: Device) -> Calibration:
    from paredown.search.calibrating.fitting import concluded, family_space, network_of
    from paredown.search.calibrating.latency_source import reference_work
    from paredown.search.calibrating.remote import read_manifest, read_networks, read_timings
    from paredown.search.evaluating.surveying import survey
    from paredown.spaces.candidates.candidate import Candidate
    from paredown.spaces.knobs.space import Space

    manifest = read_manifest(folder, device.name)
    spaces: dict[str, Space] = {}
    own = None if config is None else survey(config).space

    def rebuild(origin: str, candidate: Candidate, index: int) -> Network:
        if own is None and origin not in spaces:
            family, seed = origin.split()
            spaces[origin] = family_space(family, int(seed), device)  # type: ignore[arg-type]
        space = own or spaces[origin]
        group = list(spaces).index(origin) if own is None else 0
        return network_of(space, candidate, index, origin, group)

    times_s, machine = read_timings(folder, manifest)
    networks = read_networks(manifest, rebuild)
    reference = None if own is None else reference_work(own)
    return concluded(networks, times_s, device, int(manifest["threads"]), machine, reference)


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
    """Writes the calibration and tells how good it is."""
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
