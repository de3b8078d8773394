"""How commands end: by an interrupt and by SIGTERM, whatever became of Ctrl-C before."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """\
import signal, sys, time
from paredown.search.cli.application import app, command

@command("wait", "paredown wait")
def wait() -> None:
    '''Ends when it is told to.'''
    signal.raise_signal(getattr(signal, sys.argv[3]))
    time.sleep(60)

signal.signal(signal.SIGINT, getattr(signal, sys.argv[2]))
app(["wait"])
"""


def ended(ctrl_c: str, by: str) -> int:
    """Exit code of a command that gets the signal `by` where Ctrl-C is handled as `ctrl_c`."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "wait", ctrl_c, by],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert "Traceback" not in done.stderr
    return done.returncode


@pytest.mark.parametrize("ctrl_c", ["default_int_handler", "SIG_IGN", "SIG_DFL"])
def test_sigterm_ends_a_command_also_where_a_script_ignores_ctrl_c(ctrl_c: str) -> None:
    assert ended(ctrl_c, "SIGTERM") == 143


def test_ctrl_c_ends_a_command_with_a_code_of_its_own() -> None:
    assert ended("default_int_handler", "SIGINT") == 130
