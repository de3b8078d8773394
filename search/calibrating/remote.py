"""Calibration of a machine that paredown is not installed on: a folder out, a CSV of timings in.

The folder holds the networks as ONNX files, `manifest.json`, and `time_models.py`, which needs
only Python, numpy and onnxruntime. What comes back is `timings.csv`: file, instance, seconds and
machine, one row for each session.
"""

from __future__ import annotations

import csv
import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paredown.hardware_models.devices.device import Device
from paredown.hardware_models.latency.calibrated import CalibrationError
from paredown.hardware_models.latency.models import Array
from paredown.hardware_models.timing import time_models
from paredown.search.calibrating.drawing import (
    Network,
    family_space,
    network_of,
    reference_work,
)
from paredown.search.calibrating.families import FAMILIES, Family
from paredown.search.calibrating.fitting import Request
from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.knobs.space import Space
from paredown.spaces.system.json_values import Json
from paredown.spaces.system.sealed import DamagedFileError, read_sealed, write_sealed

SCHEMA_VERSION = 1
MANIFEST, TIMINGS, SCRIPT = "manifest.json", "timings.csv", "time_models.py"
Rebuild = Callable[[str, Candidate, int], Network]
"""From a network's origin, candidate and number to the network as it was written."""


def write_folder(
    folder: Path, networks: Sequence[Network], device: str, threads: int
) -> tuple[Path, ...]:
    """Writes networks, manifest and the timing script; returns the files.

    Raises:
        CalibrationError: The folder already holds a calibration.
    """
    if (folder / MANIFEST).exists():
        raise CalibrationError(
            f"the folder to write must be new, {folder} already holds a {MANIFEST}; "
            "delete it, or name another"
        )
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[Json] = []
    for index, network in enumerate(networks):
        name = f"{index:04d}.onnx"
        (folder / name).write_bytes(network.model)
        rows.append(
            {
                "file": name,
                "digest": _digest(network.model),
                "origin": network.origin,
                "candidate": network.candidate.to_json(),
            }
        )
    manifest: Mapping[str, Json] = {
        "schema_version": SCHEMA_VERSION,
        "device": device,
        "threads": threads,
        "networks": rows,
    }
    write_sealed(folder / MANIFEST, manifest)
    shutil.copyfile(Path(time_models.__file__), folder / SCRIPT)
    return tuple(sorted(folder.iterdir()))


def read_manifest(folder: Path, device: str) -> Mapping[str, Any]:
    """The manifest of a folder.

    Raises:
        CalibrationError: There is none that this version reads, or it is for another device.
    """
    try:
        data: Mapping[str, Any] = read_sealed(folder / MANIFEST)
    except (OSError, DamagedFileError) as error:
        raise CalibrationError(
            f"{folder} must hold the {MANIFEST} that --write made: {error}; write it again"
        ) from error
    if data.get("schema_version") != SCHEMA_VERSION:
        raise CalibrationError(
            f"{MANIFEST} must have schema_version {SCHEMA_VERSION}, got "
            f"{data.get('schema_version')!r}; write the folder again with this version"
        )
    if data["device"] != device:
        raise CalibrationError(
            f"the folder was written for device {data['device']!r}, got {device!r}; "
            "name the same device"
        )
    return data


def read_request(folder: Path, device: Device, space: Space | None) -> tuple[Request, Array, str]:
    """What was asked of a folder's device, the seconds (networks, sessions) and the machine.

    Args:
        folder: With the timings copied into it.
        device: That the folder was written for.
        space: That its networks were drawn from; None where they are of families.

    Raises:
        CalibrationError: As `read_manifest`, `read_networks` and `read_timings`.
    """
    manifest = read_manifest(folder, device.name)
    times_s, machine = read_timings(folder, manifest)
    spaces: dict[str, Space] = {}

    def _rebuild(origin: str, candidate: Candidate, index: int) -> Network:
        if space is not None:
            names = [architecture.name for architecture in space.architectures]
            group = names.index(candidate.architecture)
            return network_of(space, candidate, index, origin, group)
        if origin not in spaces:
            spaces[origin] = family_space(*_family_and_seed(origin), device)
        return network_of(spaces[origin], candidate, index, origin, list(spaces).index(origin))

    asked = Request(
        networks=tuple(read_networks(manifest, _rebuild)),
        device=device,
        threads=int(manifest["threads"]),
        reference=None if space is None else reference_work(space),
    )
    return asked, times_s, machine


def _family_and_seed(origin: str) -> tuple[Family, int]:
    name, seed = origin.split()
    return next(family for family in FAMILIES if family == name), int(seed)


def read_networks(manifest: Mapping[str, Any], rebuild: Rebuild) -> list[Network]:
    """The networks of a manifest, made again and held against the files that were timed.

    Raises:
        CalibrationError: A network comes out otherwise than it was written.
    """
    found = []
    for index, row in enumerate(manifest["networks"]):
        network = rebuild(row["origin"], Candidate.from_json(row["candidate"]), index)
        if _digest(network.model) != row["digest"]:
            raise CalibrationError(
                f"{row['file']} was made from another config or version: today's candidate "
                f"{network.candidate.key} exports differently; write the folder again"
            )
        found.append(network)
    return found


def read_timings(folder: Path, manifest: Mapping[str, Any]) -> tuple[Array, str]:
    """Seconds (networks, sessions) in the manifest's order, and the machine that timed them.

    Raises:
        CalibrationError: The file is missing, a network has no timings or fewer than others, a
            time is not above zero, or several machines wrote it.
    """
    times: dict[str, list[float]] = {}
    machines: set[str] = set()
    try:
        with (folder / TIMINGS).open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                times.setdefault(row["file"], []).append(float(row["seconds"]))
                machines.add(row["machine"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise CalibrationError(
            f"{folder / TIMINGS} must have the columns {', '.join(time_models.COLUMNS)}: "
            f"{error}; run {SCRIPT} on the device and copy its {TIMINGS} here"
        ) from error
    names = [row["file"] for row in manifest["networks"]]
    counts = {len(times.get(name, ())) for name in names}
    if len(counts) != 1 or counts == {0}:
        raise CalibrationError(
            f"every network needs equally many timings, got {sorted(counts)}; "
            f"let {SCRIPT} finish on the device"
        )
    if len(machines) != 1:
        raise CalibrationError(
            f"timings must come from one machine, got {sorted(machines)}; time all on one"
        )
    found = np.array([times[name] for name in names])
    if not np.all(np.isfinite(found)) or np.any(found <= 0):
        raise CalibrationError(f"times in {TIMINGS} must be above zero; time the models again")
    return found, machines.pop()


def _digest(model: bytes) -> str:
    return hashlib.blake2b(model, digest_size=12).hexdigest()
