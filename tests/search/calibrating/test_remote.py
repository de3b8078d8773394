"""A folder goes to another machine, and its timings come back or are refused."""

from __future__ import annotations

import csv
import subprocess
import sys

import numpy as np
import pytest

from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.latency.calibrated import CalibrationError
from paredown.search.calibrating.drawing import family_networks
from paredown.search.calibrating.remote import (
    read_manifest,
    read_networks,
    read_request,
    read_timings,
    write_folder,
)

X86 = load_device("x86-avx512-vnni-ort")


@pytest.fixture(scope="module")
def networks():
    return family_networks(("mlp",), 8, X86, lambda text: None)


def test_a_folder_travels_and_comes_back(networks, tmp_path):
    some = networks[:6]
    folder = tmp_path / "board"
    write_folder(folder, some, X86.name, 1)
    script = [sys.executable, "-I", str(folder / "time_models.py"), "--blocks", "3"]
    subprocess.run(script, check=True, capture_output=True)
    manifest = read_manifest(folder, X86.name)
    times, machine = read_timings(folder, manifest)
    assert times.shape == (6, 2)
    assert "onnxruntime" in machine
    found, seconds, _ = read_request(folder, X86, None)
    assert [n.model for n in found.networks] == [n.model for n in some]
    assert [n.group for n in found.networks] == [n.group for n in some]
    assert np.array_equal(seconds, times)
    assert found.reference is None
    with pytest.raises(CalibrationError, match="must be new"):
        write_folder(folder, some, X86.name, 1)
    with pytest.raises(CalibrationError, match="rpi4"):
        read_manifest(folder, "rpi4-a72-ort")
    with pytest.raises(CalibrationError, match=r"0000\.onnx was made from another config"):
        read_networks(manifest, lambda *_: some[2])


@pytest.mark.parametrize(
    ("rows", "rule"),
    [
        ([("0000.onnx", 0, 1e-3, "a")], "equally many"),
        ([("0000.onnx", 0, 1e-3, "a"), ("0001.onnx", 0, 1e-3, "b")], "one machine"),
        ([("0000.onnx", 0, 1e-3, "a"), ("0001.onnx", 0, 0.0, "a")], "above zero"),
        ([("0000.onnx", 0, "fast", "a")], "must have the columns"),
        ([], "equally many"),
    ],
)
def test_timings_that_cannot_be_used_are_refused(rows, rule, networks, tmp_path):
    write_folder(tmp_path / "board", networks[:2], X86.name, 1)
    with (tmp_path / "board" / "timings.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "instance", "seconds", "machine"), *rows])
    manifest = read_manifest(tmp_path / "board", X86.name)
    with pytest.raises(CalibrationError, match=rule):
        read_timings(tmp_path / "board", manifest)
