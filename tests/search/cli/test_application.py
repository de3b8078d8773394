"""What every command takes: how much it says, and the version."""

import importlib.metadata
import json
import logging

import pytest

from paredown.search.cli.commands import app
from paredown.search.config.reading import load_config


def test_the_version_is_that_of_the_package(paredown):
    done = paredown("--version")
    assert done.exit_code == 0
    assert done.stdout == f"paredown {importlib.metadata.version('paredown')}\n"


def test_quiet_keeps_results_and_leaves_out_progress(paredown, make_run):
    folder = make_run()
    assert paredown("front", folder, "-q").stdout == paredown("front", folder).stdout
    quiet = paredown("front", folder, "--json", "--quiet")
    assert json.loads(quiet.stdout)["front"]


def test_quiet_and_verbose_exclude_each_other(paredown, make_run):
    done = paredown("front", make_run(), "-q", "-v")
    assert done.exit_code == 2
    assert "drop one" in done.stderr


@pytest.mark.parametrize(
    ("options", "seen"), [((), {"warning"}), (("-v",), {"warning", "info"}), (("-q",), set())]
)
def test_log_records_are_shown_by_loudness(paredown, make_run, monkeypatch, options, seen):
    def speak(folder):
        log = logging.getLogger("paredown.search.spoken")
        log.warning("a warning \x1b[31m[/x]")
        log.info("an info")
        raise SystemExit(0)

    monkeypatch.setattr("paredown.search.study.run_record.read_run", speak)
    done = paredown("front", make_run(), *options)
    assert {word for word in ("warning", "info") if word in done.stderr} == seen
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("command", [c.name for c in app.registered_commands])
def test_every_command_takes_quiet_and_verbose(paredown, command):
    shown = paredown(command, "--help").output
    assert "--quiet" in shown
    assert "--verbose" in shown


def test_devices_fit_eighty_columns(monkeypatch, paredown):
    from typer.testing import CliRunner

    done = CliRunner().invoke(app, ["devices"], env={"COLUMNS": "80", "TERM": "dumb"})
    lines = done.output.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in done.output
    assert sum(line.startswith("rpi4-a72-ort ") for line in lines) == 1


def test_a_password_in_the_config_itself_is_refused_and_not_repeated(write_config, mistakes):
    text = "task: {name: digits}\ngoals: [{metric: accuracy}, {metric: onnx_bytes}]\n"
    path = write_config(text + "tracking: {uri: 'http://me:hunter2@host:5000'}\n")
    told = mistakes(path)
    assert "tracking.uri" in told
    assert "http://me:***@host" in told
    assert "hunter2" not in told
    kept = write_config(text + "tracking: {uri: 'http://me:${HOME}@host:5000'}\n")
    assert load_config(kept).tracking.uri == "http://me:${HOME}@host:5000"
