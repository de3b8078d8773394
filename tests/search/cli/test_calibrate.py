"""The command `paredown calibrate` from options to file."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.latency.calibration_file import read_calibration
from paredown.search.calibrating.latency_source import latency_model
from paredown.search.cli.commands import app
from paredown.search.config.reading import load_config
from paredown.search.evaluating.workbench import prepare

X86 = load_device("x86-avx512-vnni-ort")
PLAIN = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
CONFIG = """\
name: toy
task: {name: digits}
hardware: {device: x86-avx512-vnni-ort, latency: roofline}
goals: [{metric: accuracy}, {metric: latency_s}]
"""


def paredown(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], env=PLAIN)


def test_the_commands_write_read_and_search_with_the_file(tmp_path):
    config = tmp_path / "toy.yaml"
    config.write_text(CONFIG)
    folder, target = tmp_path / "board", tmp_path / "board.json"
    written = paredown("calibrate", config, "--networks", 6, "--write", folder)
    assert written.exit_code == 0, written.output
    assert f"--read {folder}" in written.stdout.replace("\n", " ")
    script = [sys.executable, "-I", str(folder / "time_models.py"), "--blocks", "3"]
    subprocess.run(script, check=True, capture_output=True)
    read = paredown("calibrate", config, "--read", folder, "--output", target)
    assert read.exit_code == 0, read.output
    model, _ = read_calibration(target)
    assert model.networks == 6
    checked = load_config(config, [f"hardware.latency={target}"])
    kept = tmp_path / "latency.json"
    workbench = prepare(checked, kept)
    assert workbench.cost_models.latency_model == model
    # Settled for the run: a resumption no longer looks at the calibration file.
    target.unlink()
    space = workbench.space
    again, _ = latency_model(str(target), X86, 1, space, json.loads(kept.read_text()))
    assert again == model


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ((), "takes a config or --families"),
        (("--families", "cnn,poems"), "must be of cnn, mobile"),
        (("--families", "mlp", "--device", "rpi4-a72-ort"), "use --write"),
        (("--families", "mlp", "--write", "a", "--read", "b"), "at most one"),
    ],
)
def test_mistakes_are_told_in_a_sentence(arguments, rule):
    found = paredown("calibrate", "--networks", 5, *arguments)
    assert found.exit_code == 2
    assert rule in " ".join(found.output.split())


@pytest.mark.parametrize("value", ["fast", "missing.json"])
def test_a_latency_that_is_none_is_told_with_the_remedy(value, tmp_path):
    config = tmp_path / "toy.yaml"
    config.write_text(CONFIG)
    with pytest.raises(ValueError, match="paredown calibrate"):
        load_config(config, [f"hardware.latency={value}"])
