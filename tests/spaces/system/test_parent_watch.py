"""What a process started ends with it, killed or not, whole groups and strangers alike."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from paredown.spaces.system import parent_watch
from paredown.spaces.system.parent_watch import end, guarded

# A command of others: it starts a process of its own, writes both numbers, and never ends.
STRANGER = """\
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with open(sys.argv[1] + ".part", "w") as file:
    print(os.getpid(), child.pid, file=file)
os.rename(sys.argv[1] + ".part", sys.argv[1])
time.sleep(600)
"""
PARENT = """\
import runpy, sys, time
watch = runpy.run_path(sys.argv[1])
watch["guarded"](sys.argv[3:]) if sys.argv[2] == "guard" else None
watch["end_holders_with_parent"](sys.argv[3]) if sys.argv[2] == "holders" else None
print("started", flush=True)
time.sleep(600)
"""
HOLDER = 'import sys, time; held = open(sys.argv[1]); print("holds", flush=True); time.sleep(600)'


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(is_true, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def parent():
    """(what, arguments...) starts a process that guards or watches, and gives it when it does."""
    started = []

    def start(*arguments):
        command = [sys.executable, "-c", PARENT, parent_watch.__file__, *map(str, arguments)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout.readline() == b"started\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_guarded_command_and_what_it_started_end_when_the_parent_is_killed(parent, tmp_path):
    numbers = tmp_path / "numbers"
    process = parent("guard", sys.executable, "-c", STRANGER, numbers)
    wait_until(numbers.exists)
    pids = [int(each) for each in numbers.read_text().split()]
    assert all(is_alive(pid) for pid in pids)
    os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: not any(is_alive(pid) for pid in pids))


def test_a_guarded_command_ends_as_it_ends_itself():
    for code in (0, 3, -signal.SIGTERM):
        line = (
            f"import os; os.kill(os.getpid(), {-code})"
            if code < 0
            else f"raise SystemExit({code})"
        )
        process = guarded([sys.executable, "-c", line])
        assert process.wait() == code
        end(process)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_holders_of_a_file_end_when_the_parent_is_killed_and_others_do_not(parent, tmp_path):
    holders = []
    for name in ("session_x_77", "session_x_78"):
        (tmp_path / name).mkdir()
        file = tmp_path / name / "log"
        file.touch()
        command = [sys.executable, "-c", HOLDER, str(file)]
        holders.append(subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True))
        assert holders[-1].stdout.readline() == b"holds\n"
    process = parent("holders", f"{tmp_path}/session_*_77/*")
    try:
        assert holders[0].poll() is None
        os.kill(process.pid, signal.SIGKILL)
        assert holders[0].wait(30) == -signal.SIGKILL
        assert holders[1].poll() is None
    finally:
        for holder in holders:
            holder.kill()
            holder.communicate()
