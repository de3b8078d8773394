"""Processes of a cluster of our own end with it, and the handler of SIGTERM stays the user's."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from paredown.search.running.engines.ray_remains import no_remains, own_sigterm

HOLDER = 'import sys, time; held = open(sys.argv[1]); print("holds", flush=True); time.sleep(600)'
DRIVER = """\
import sys, time
from paredown.search.running.engines.ray_remains import no_remains
with no_remains():
    print("started", flush=True)
    time.sleep(600)
"""


def hold(folder, pid):
    """A process like an agent of Ray's: in a session of its own, writing to the cluster's logs."""
    log = folder / f"session_2026-01-01_{pid}" / "agent.log"
    log.parent.mkdir(parents=True)
    log.touch()
    command = [sys.executable, "-c", HOLDER, str(log)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout.readline() == b"holds\n"
    return process


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_agents_of_the_drivers_own_session_end_when_it_is_killed(tmp_path):
    driver = subprocess.Popen([sys.executable, "-c", DRIVER], stdout=subprocess.PIPE)
    started = [driver]
    try:
        assert driver.stdout.readline() == b"started\n"
        ours, others = hold(tmp_path, driver.pid), hold(tmp_path, 10 * driver.pid)
        started += [ours, others]
        os.kill(driver.pid, signal.SIGKILL)
        assert ours.wait(30) == -signal.SIGKILL
        assert others.poll() is None
    finally:
        for process in started:
            process.kill()
            process.communicate()


def test_the_watch_itself_ends_with_the_block():
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    if not children.exists():
        pytest.skip("needs /proc")
    before = set(children.read_text().split())
    with no_remains():
        (watch,) = set(children.read_text().split()) - before
    assert watch not in children.read_text().split()


def test_what_replaces_the_handler_of_sigterm_is_taken_back():
    before = signal.getsignal(signal.SIGTERM)

    def ours(*_):
        return None

    signal.signal(signal.SIGTERM, ours)
    try:
        with own_sigterm():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        assert signal.getsignal(signal.SIGTERM) is ours
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_thread_that_may_set_no_handler_goes_on_without():
    reached = []

    def work():
        with own_sigterm():
            reached.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert reached == [True]
