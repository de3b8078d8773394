"""The commands as a user types them: what they print, and the exit code."""

import errno
import json
import os
import socket
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
import yaml

from paredown.hardware_models.devices.device import Device, load_device
from paredown.search.study.evaluation import Failure, FailureKind
from paredown.search.study.journal import Journal
from paredown.search.study.pareto import front_of
from paredown.search.study.run_record import CONFIG as CONFIG_FILE
from paredown.search.study.run_record import JOURNAL, RUNG
from paredown.search.study.rung import Rung
from paredown.spaces.candidates.candidate import Candidate

CONFIG = """\
name: toy
task: {name: digits}
goals: [{metric: accuracy}, {metric: latency_s}, {metric: onnx_bytes}]
"""
COMMANDS = (
    "search",
    "init",
    "runs",
    "front",
    "inspect",
    "export",
    "verify",
    "compare",
    "ui",
    "calibrate",
    "devices",
    "cache",
    "schema",
)


def write_config(folder, text=CONFIG):
    path = folder / "toy.yaml"
    path.write_text(text)
    return path


def test_help_imports_nothing_heavy():
    code = (
        "import sys, paredown.search.cli.commands as cli\n"
        "try: cli.app(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'ray', 'mlflow', 'optuna', 'onnx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_in_a_line_and_by_examples(paredown, command):
    listed = paredown("--help")
    assert command in listed.output
    shown = paredown(command, "--help")
    assert shown.exit_code == 0
    assert f"paredown {command}" in shown.output.split("Examples")[1]


@pytest.mark.parametrize("command", ["search", "inspect"])
def test_a_mistake_in_the_config_is_a_sentence_and_exit_code_2(paredown, command, tmp_path):
    path = write_config(tmp_path, CONFIG + "search: {seed: -1}\n")
    done = paredown(command, path)
    assert done.exit_code == 2
    assert "search.seed" in done.stderr
    assert "Traceback" not in done.output


def test_a_setting_that_does_not_exist_is_told(paredown, tmp_path):
    done = paredown("search", write_config(tmp_path), "--set", "search.sed=3")
    assert done.exit_code == 2
    assert "search.sed" in done.stderr


def test_an_error_that_is_not_the_users_keeps_its_traceback(paredown, tmp_path, monkeypatch):
    def broken(path, overrides):
        raise ValueError("ours")

    monkeypatch.setattr("paredown.search.config.reading.load_config", broken)
    done = paredown("search", write_config(tmp_path))
    assert isinstance(done.exception, ValueError)
    assert str(done.exception) == "ours"


@pytest.mark.parametrize(("number", "is_told"), [(errno.ENOSPC, True), (errno.EIO, False)])
def test_a_full_disk_is_told_and_other_system_errors_keep_their_traceback(
    paredown, tmp_path, monkeypatch, number, is_told
):
    def full(path, overrides):
        raise OSError(number, os.strerror(number), "runs/toy/front.html")

    monkeypatch.setattr("paredown.search.config.reading.load_config", full)
    done = paredown("search", write_config(tmp_path))
    assert isinstance(done.exception, SystemExit) == is_told
    if is_told:
        assert done.exit_code == 2
        assert "runs/toy/front.html" in done.stderr
        assert "--resume" in done.stderr


def test_a_file_in_the_way_of_the_runs_folder_is_told(paredown, tmp_path):
    (tmp_path / "runs").touch()
    folder = f"output.folder={tmp_path / 'runs'}"
    done = paredown("search", write_config(tmp_path), "--set", folder)
    assert done.exit_code == 2
    assert str(tmp_path / "runs") in done.stderr


def test_an_interruption_is_exit_code_130(paredown, tmp_path, monkeypatch):
    def interrupted(path, overrides):
        raise KeyboardInterrupt

    monkeypatch.setattr("paredown.search.config.reading.load_config", interrupted)
    assert paredown("search", write_config(tmp_path)).exit_code == 130


def test_front_prints_every_member_beside_the_uncompressed_model(
    paredown, make_run, goals, capsys
):
    folder = make_run()
    done = paredown("front", folder)
    members = json.loads(paredown("front", folder, "--json").stdout)["front"]
    assert done.exit_code == 0
    assert len(members) > 3
    assert "uncompressed" in done.stdout
    assert all((member["label"] or member["key"]) in done.stdout for member in members)


def test_the_json_front_holds_candidates_that_give_back_their_keys(paredown, make_run):
    told = json.loads(paredown("front", make_run(), "--json").stdout)
    assert [goal["metric"] for goal in told["goals"]] == ["accuracy", "latency_s", "onnx_bytes"]
    for member in told["front"]:
        assert Candidate.from_json(member["candidate"]).key == member["key"]


def test_the_front_is_that_of_the_highest_rung_once_that_is_finished(
    paredown, make_run, goals, make_evaluations
):
    promoted = {0, 5, 7}
    folder = make_run(change=lambda e: replace(e, rung=Rung(number=int(e.number in promoted))))
    whole = make_evaluations(30)

    def told():
        found = json.loads(paredown("front", folder, "--json").stdout)["front"]
        return {member["key"] for member in found}

    first = front_of([e for e in whole if e.number not in promoted], goals)
    assert told() == first.keys
    with closing(Journal.open(folder / JOURNAL, goals, resume=True)) as journal:
        journal.set_attribute(RUNG, 1)
    assert (
        told()
        == front_of(
            [replace(whole[n], rung=Rung(number=1)) for n in promoted], goals, rung=Rung(number=1)
        ).keys
    )


def test_a_folder_without_a_run_is_exit_code_2(paredown, tmp_path):
    done = paredown("front", tmp_path)
    assert done.exit_code == 2
    assert "study.journal" in done.stderr


def test_an_empty_front_is_exit_code_1(paredown, make_run):
    folder = make_run(
        change=lambda e: replace(
            e, metrics={}, failure=Failure.of_text(FailureKind.RAISED, "lost")
        )
    )
    assert paredown("front", folder).exit_code == 1


def test_devices_lists_what_ships_and_shows_one(paredown):
    listed = paredown("devices")
    assert listed.exit_code == 0
    shown = paredown("devices", "rpi4-a72-ort")
    assert "rpi4-a72-ort" in listed.stdout
    assert "activation bits" in shown.stdout
    missing = paredown("devices", "toaster")
    assert missing.exit_code == 2
    assert "rpi4-a72-ort" in missing.stderr


def test_devices_are_listed_and_shown_for_programs(paredown):
    listed = json.loads(paredown("devices", "--json").stdout)
    assert {"rpi4-a72-ort", "x86-avx2-ort"} <= {device["name"] for device in listed}
    shown = json.loads(paredown("devices", "rpi4-a72-ort", "--json").stdout)
    assert Device.model_validate(shown) == load_device("rpi4-a72-ort")


def test_inspect_tells_programs_the_parts_and_what_the_uncompressed_model_costs(
    paredown, tmp_path
):
    told = json.loads(paredown("inspect", write_config(tmp_path), "--json").stdout)
    assert {"latency_s", "onnx_bytes", "packed_bytes", "peak_memory_bytes"} <= told[
        "uncompressed"
    ].keys()
    (model,) = told["architectures"]
    macs = sum(layer["macs"] for layer in model["layers"])
    assert macs == told["uncompressed"]["macs"]
    several = [knob for knob in model["knobs"] if len(knob["values"]) > 1]
    assert len(several) == told["open_knobs"]


def test_the_schema_accepts_the_examples_and_refuses_a_typing_mistake(paredown):
    schema = json.loads(paredown("schema").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    root = Path(__file__).resolve().parents[3]
    example = yaml.safe_load((root / "examples" / "digits.yaml").read_text())
    assert validator.is_valid(example)
    assert not validator.is_valid(example | {"goal": []})


def test_the_page_of_a_folder_without_a_run_is_refused(paredown, tmp_path):
    done = paredown("ui", tmp_path)
    assert done.exit_code == 2
    assert "study.journal" in done.stderr


def test_a_port_that_is_taken_is_told_before_the_server_starts(paredown, make_run, tmp_path):
    folder = make_run()
    write_config(folder).rename(folder / CONFIG_FILE)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = paredown("ui", folder, "--port", str(port))
    assert done.exit_code == 2
    assert f"the port must be free, got {port}" in done.stderr
    assert "--port" in done.stderr
