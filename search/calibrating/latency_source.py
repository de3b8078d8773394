"""Where a search's latencies come from: the device file, a fit, a calibration, or timing each."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from paredown.hardware_models.devices.device import Device, host_device
from paredown.hardware_models.latency.calibrated import CalibratedLatency
from paredown.hardware_models.latency.calibration_file import (
    check_target,
    model_from_json,
    read_calibration,
)
from paredown.hardware_models.latency.learned import LearnedLatency
from paredown.hardware_models.latency.measured import MeasuredLatency, start_measuring
from paredown.hardware_models.latency.models import LatencyError, LatencyModel, RooflineLatency
from paredown.search.calibrating.drawing import export, reference_work, space_networks
from paredown.search.calibrating.fitting import Request, calibrate_here, loadable
from paredown.search.tasks.cache import cache_folder
from paredown.spaces.knobs.space import Space
from paredown.spaces.system.json_values import Json
from paredown.spaces.system.sealed import DamagedFileError, read_sealed, write_sealed

_log = logging.getLogger(__name__)

_NETWORKS = 120
"""Measured networks of a fit, 40 of each kind, of which the bound of an interval is the second largest
error."""
_REPEATED = 24
"""Networks timed twice to learn how measuring repeats itself: an interval needs 20."""
_TIMED_HERE = {"measured": ("measured",), "calibrated": ("calibrated", "learned")}
"""Sources that time networks on this machine, and the kinds of model they may end in (`fit_best`)."""


def latency_model(
    kind: str,
    device: Device,
    threads: int,
    space: Space,
    stored: Mapping[str, Json] | None,
) -> tuple[LatencyModel, dict[str, Json] | None]:
    """The latency model of a search, and what to keep of it for a resumption (None for a roofline).

    Args:
        kind: "roofline", "calibrated", "measured", or the path of a calibration file.
        stored: What an earlier call gave to keep: the same model comes back, nothing is measured.

    Raises:
        LatencyError: The device is not this machine and would have to be, or `stored` is a model of
            another kind, device or number of threads.
        CalibrationError: The file is no calibration, or one of another device or thread count.
    """
    if kind == "roofline":
        return RooflineLatency(device, threads), None
    if kind in _TIMED_HERE:
        _check_is_here(kind, device)
    if stored is not None:
        return _kept(kind, device, threads, space, stored), dict(stored)
    if kind == "measured":
        measured = _measured(threads, space)
        return measured, measured.to_json()
    if kind == "calibrated":
        fitted = _calibrated(device, threads, space)
        return fitted, fitted.to_json()
    model, _ = read_calibration(Path(kind))
    check_target(model, device, threads)
    return model, model.to_json()


def kept_latency_model(
    kind: str, device: Device, threads: int, space: Space, file: Path | None
) -> LatencyModel:
    """The latency model of a run, kept in `file`: read where it exists, written otherwise.

    Raises:
        LatencyError, CalibrationError: As `latency_model`, or `file` is damaged.
    """
    stored = _read(file) if file is not None and file.exists() else None
    model, written = latency_model(kind, device, threads, space, stored)
    if file is not None and stored is None and written is not None:
        write_sealed(file, written)
    return model


def _read(file: Path) -> dict[str, Json]:
    try:
        return read_sealed(file)
    except DamagedFileError as error:
        raise LatencyError(
            f"{file} must hold the latency model that the run was begun with, but {error}; "
            "a new one would give its models other costs, so restore it or start a new run"
        ) from error


def _kept(
    kind: str, device: Device, threads: int, space: Space, stored: Mapping[str, Json]
) -> LatencyModel:
    try:
        if kind in _TIMED_HERE and stored.get("kind") not in _TIMED_HERE[kind]:
            raise LatencyError(f"it is {stored.get('kind')!r}, the config asks for {kind!r}")
        if kind == "measured":
            measured = MeasuredLatency.from_json(
                stored, export=export, reference=reference_work(space)
            )
            if measured.threads != threads:
                raise LatencyError(
                    f"it is for {measured.threads} threads, the config says {threads}"
                )
            return measured
        model = model_from_json(stored)
        check_target(model, device, threads)
        given = Path(kind)
        if given.is_file() and read_calibration(given)[0].to_json() != stored:
            raise LatencyError(f"{given} is another calibration now")
        return model
    except (KeyError, TypeError, ValueError) as error:
        raise LatencyError(
            f"the latency model kept in the run's folder does not fit: {error}; restore "
            "`hardware`, or start a new run"
        ) from error


def _check_is_here(kind: str, device: Device) -> None:
    here = host_device().name
    if device.name != here:
        raise LatencyError(
            f"hardware.latency {kind!r} times networks on this machine ({here}), got device "
            f"{device.name!r}; set hardware.latency to roofline, or to a file of `paredown "
            "calibrate --write` and `--read`"
        )


def _calibrated(device: Device, threads: int, space: Space) -> CalibratedLatency | LearnedLatency:
    asked = Request.of_space(space, _NETWORKS, device, threads, is_judged=False)
    found = calibrate_here(asked, _log.info)
    _warn(found.left_out)
    return found.model


def _measured(threads: int, space: Space) -> MeasuredLatency:
    others, left_out = loadable(space_networks(space, _REPEATED))
    _warn(left_out)
    folder = cache_folder() / "latency"
    works = [network.work for network in others]
    return start_measuring(export, reference_work(space), works, folder, threads=threads)


def _warn(left_out: Sequence[str]) -> None:
    for reason in left_out:
        _log.warning("sample network is not timed: %s", reason)
