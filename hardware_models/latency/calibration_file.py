"""Latency models as JSON files, and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from paredown.hardware_models.devices.device import Device
from paredown.hardware_models.latency.calibrated import CalibratedLatency, CalibrationError
from paredown.hardware_models.latency.learned import LearnedLatency
from paredown.hardware_models.latency.models import RooflineLatency
from paredown.hardware_models.latency.table import TableLatency
from paredown.spaces.system.json_values import Json
from paredown.spaces.system.sealed import DamagedFileError, read_sealed, write_sealed

SCHEMA_VERSION = 1
StoredLatency = RooflineLatency | CalibratedLatency | LearnedLatency | TableLatency
"""Models that JSON holds whole; a measuring model also needs something to export with."""

_KINDS: Mapping[str, type[StoredLatency]] = {
    "roofline": RooflineLatency,
    "calibrated": CalibratedLatency,
    "learned": LearnedLatency,
    "table": TableLatency,
}


def model_from_json(data: Mapping[str, Any]) -> StoredLatency:
    """The model that its `to_json` wrote.

    Raises:
        CalibrationError: No such kind of model, or a field is missing, was renamed or does not fit.
    """
    kind = str(data.get("kind"))
    if kind not in _KINDS:
        raise CalibrationError(
            f"a stored latency model is one of {', '.join(_KINDS)}, got {kind!r}; calibrate again"
        )
    try:
        return _KINDS[kind].from_json(data)
    except (KeyError, TypeError) as error:
        raise CalibrationError(
            f"a stored {kind} model lacks or renames a field ({error}); calibrate again with this "
            "version"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"])
        raise CalibrationError(
            f"the device in a stored {kind} model must be as this version reads it, got "
            f"{error.error_count()} mistakes, the first at {place}: {first['msg']}; calibrate again "
            "with this version"
        ) from error


def write_calibration(path: Path, model: StoredLatency, report: Mapping[str, Json]) -> None:
    """Writes a model with the report of its calibration, in one step."""
    record: dict[str, Json] = {
        "schema_version": SCHEMA_VERSION,
        "model": model.to_json(),
        "report": dict(report),
    }
    write_sealed(path, record)


def read_calibration(path: Path) -> tuple[StoredLatency, Mapping[str, Json]]:
    """The model and the report of a calibration file.

    Raises:
        CalibrationError: There is no such file, or it is no calibration.
    """
    try:
        data = read_sealed(path)
    except (OSError, DamagedFileError) as error:
        raise CalibrationError(
            f"a calibration is a JSON file written by `paredown calibrate`, {path} is none: "
            f"{error}; calibrate again"
        ) from error
    if data.get("schema_version") != SCHEMA_VERSION:
        raise CalibrationError(
            f"{path.name} must be a calibration of schema_version {SCHEMA_VERSION}; write it with "
            "`paredown calibrate`"
        )
    model, report = data.get("model"), data.get("report")
    if not (isinstance(model, dict) and isinstance(report, dict)):
        raise CalibrationError(
            f"{path.name} must hold a `model` and its `report`, got {', '.join(sorted(data))}; "
            "write it with `paredown calibrate`"
        )
    return model_from_json(model), report


def check_target(model: StoredLatency, device: Device, threads: int) -> None:
    """Nothing, if a stored model is for this device and as many threads.

    Raises:
        CalibrationError: It is for another.
    """
    made_for = _preset(model)
    if made_for.device.name != device.name:
        raise CalibrationError(
            f"the calibration is for device {made_for.device.name!r}, the config names "
            f"{device.name!r}; set hardware.device, or calibrate that one"
        )
    if made_for.threads != threads:
        raise CalibrationError(
            f"the calibration is for {made_for.threads} threads, the config asks for {threads}; "
            "set hardware.threads, or calibrate with --threads"
        )


def _preset(model: StoredLatency) -> RooflineLatency | CalibratedLatency:
    if isinstance(model, LearnedLatency):
        return model.base
    if isinstance(model, RooflineLatency | CalibratedLatency):
        return model
    return model.preset
