"""How commands end: by a mistake, a fault, an interrupt, and SIGTERM, also where Ctrl-C is ignored."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from paredown.search.cli.commands import app
from paredown.search.cli.endings import mistakes_in_a_sentence
from paredown.search.study.picking import PickError
from paredown.spaces.system.sealed import DamagedFileError

SCRIPT = """\
import signal, sys, time
from paredown.search.cli.application import app, command

@command("wait", "paredown wait")
def wait() -> None:
    '''Ends by a signal.'''
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


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (PickError("a pick has one aim, got two; drop one"), "a pick has one aim"),
        (DamagedFileError("its content does not match its digest"), "does not match its digest"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "got /x: Permission denied"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), "there must be room to write /x"),
    ],
)
def test_what_a_user_can_mend_is_one_sentence_and_exit_code_2(
    error: Exception, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ending, mistakes_in_a_sentence():
        raise error
    assert ending.value.exit_code == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("error", [ValueError("a fault"), OSError(errno.EIO, "I/O error", "/x")])
def test_a_fault_of_the_program_keeps_its_traceback(error: Exception) -> None:
    with (
        pytest.raises(type(error), match=str(error.args[1] if len(error.args) > 1 else error)),
        mistakes_in_a_sentence(),
    ):
        raise error


def test_a_command_may_not_be_both_quiet_and_verbose() -> None:
    found = CliRunner().invoke(app, ["devices", "--quiet", "--verbose"])
    assert found.exit_code == 2
    assert "drop one" in found.stderr
