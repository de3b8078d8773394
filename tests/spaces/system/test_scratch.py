"""Scratch folders go with their process, or with the next one where it was killed."""

import os
import signal
import subprocess
import sys

import pytest

from paredown.spaces.system.scratch import scratch_folder

KILLED = """\
import os, signal
from paredown.spaces.system.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "data").write_text("x")
    print(folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_a_scratch_folder_is_removed_at_its_end_whatever_happened_in_it(place):
    def fail():
        with scratch_folder() as folder:
            (folder / "deep").mkdir()
            assert folder.parent == place
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(place.iterdir()) == []


def test_what_a_killed_process_left_is_swept_and_what_is_in_use_is_not(place):
    (place / "paredown-notes").mkdir()  # whose it is nobody knows
    with scratch_folder() as used:
        found = subprocess.run(
            [sys.executable, "-c", KILLED],
            env={**os.environ, "TMPDIR": str(place)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert found.returncode == -signal.SIGKILL
        left = found.stdout.strip()
        assert os.path.exists(f"{left}/data")
        with scratch_folder() as folder:
            assert {each.name for each in place.iterdir() if each.is_dir()} == {
                "paredown-notes",
                used.name,
                folder.name,
            }
    assert [each.name for each in place.iterdir()] == ["paredown-notes"]
