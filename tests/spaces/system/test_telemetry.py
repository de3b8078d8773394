"""Telemetry is off unless the user says otherwise, in this process and in those that it starts."""

import os
import subprocess
import sys

import pytest

from paredown.spaces.system.telemetry import SWITCHES, switch_off


@pytest.fixture
def clean(monkeypatch):
    for name in SWITCHES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_every_switch_is_set_for_processes_too(clean):
    switch_off()
    code = f"import os; print(*[os.environ.get(name) for name in {list(SWITCHES)!r}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == list(SWITCHES.values())


def test_what_the_user_has_set_stays(clean):
    clean.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    clean.setenv("DO_NOT_TRACK", "")
    switch_off()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "false"
    assert os.environ["DO_NOT_TRACK"] == ""
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


@pytest.mark.parametrize("package", ["search", "compressors", "hardware_models"])
def test_a_package_that_leads_to_onnx_runtime_switches_it_off_when_it_is_imported(clean, package):
    code = f"import os, paredown.{package}; print(os.environ.get('ORT_DISABLE_TELEMETRY'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
