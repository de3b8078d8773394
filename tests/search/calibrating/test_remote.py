"""A calibration by folder: it travels, comes back with timings, and is held against what was sent."""

from __future__ import annotations

import csv
import subprocess
import sys

import pytest

from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.latency.calibrated import CalibrationError
from paredown.search.calibrating.fitting import (
    family_networks,
    family_space,
    network_of,
)
from paredown.search.calibrating.remote import (
    read_manifest,
    read_networks,
    read_timings,
    write_folder,
)

X86 = load_device("x86-avx512-vnni-ort")


@pytest.fixture(scope="module")
def networks():
    return family_networks(("mlp",), 6, X86, lambda text: None)


def test_a_folder_travels_and_comes_back(networks, tmp_path):
    some = networks
    folder = tmp_path / "board"
    write_folder(folder, some, X86.name, 1)
    script = [sys.executable, "-I", str(folder / "time_models.py"), "--blocks", "3"]
    subprocess.run(script, check=True, capture_output=True)
    manifest = read_manifest(folder, X86.name)
    times, machine = read_timings(folder, manifest)
    assert times.shape == (len(some), 2)
    assert "onnxruntime" in machine
    spaces = {}

    def rebuild(origin, candidate, index):
        family, seed = origin.split()
        spaces.setdefault(origin, family_space(family, int(seed), X86))
        return network_of(spaces[origin], candidate, index, origin, 0)

    assert [n.model for n in read_networks(manifest, rebuild)] == [n.model for n in some]
    with pytest.raises(CalibrationError, match="must be new"):
        write_folder(folder, some, X86.name, 1)
    with pytest.raises(CalibrationError, match="rpi4"):
        read_manifest(folder, "rpi4-a72-ort")
    manifest["networks"][2]["digest"] = "0"
    with pytest.raises(CalibrationError, match=r"0002\.onnx was made from another config"):
        read_networks(manifest, rebuild)


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


@pytest.fixture
def board(networks, tmp_path):
    write_folder(tmp_path / "board", networks[:3], X86.name, 2)
    return tmp_path / "board"


def test_seconds_stand_in_the_order_of_the_networks_whatever_that_of_the_rows(board):
    rows = [(f"000{i}.onnx", k, (i + 1) * 1e-3 + k * 1e-6, "a") for k in (0, 1) for i in (2, 0, 1)]
    with (board / "timings.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "instance", "seconds", "machine"), *rows])
    times, machine = read_timings(board, read_manifest(board, X86.name))
    assert times.ravel() == pytest.approx([1e-3, 1.001e-3, 2e-3, 2.001e-3, 3e-3, 3.001e-3])
    assert machine == "a"


def test_a_manifest_that_was_changed_on_its_way_is_refused(board):
    path = board / "manifest.json"
    path.write_text(path.read_text().replace("0001.onnx", "0002.onnx"))
    with pytest.raises(CalibrationError, match=r"manifest\.json"):
        read_manifest(board, X86.name)
