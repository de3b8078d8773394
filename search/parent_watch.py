"""Processes that end with the one that started them, however that one ends: kill -9 included.

The child holds the reading end of a pipe whose writing end only its parent has. When the parent
dies, the kernel closes that end and the child reads the end of the file; nothing is polled, and it
works alike on every system. A child runs in a process group of its own and ends it whole, for what
it has started itself (a server's workers, a metric's data loaders) would live on otherwise.

Run as a program, this file is the parent of a command that knows nothing of this, or ends all
processes with a mark in their environment. It needs the standard library alone, to start at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

_MARKED = "--end-marked"


def popen(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    output: IO[str] | None = None,
) -> subprocess.Popen[bytes]:
    """Starts a process of ours, which calls `end_with_parent`, in a process group of its own."""
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        env=None if environment is None else dict(environment),
        start_new_session=True,
    )


def guarded(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Starts a command of others, which ends with this process; `end` ends it before."""
    return popen([*_this_file(), *command], environment)


def end(process: subprocess.Popen[bytes], number: int = signal.SIGKILL) -> None:
    """Sends a signal to a process that `popen` started and to its whole group, and waits for it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, number)
        else:
            process.kill()
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    process.wait()


def end_with_parent() -> None:
    """From now on this process and its group end when standard input does."""
    threading.Thread(target=_wait_and_end, name="parent-watch", daemon=True).start()


def end_marked_with_parent(mark: str) -> subprocess.Popen[bytes]:
    """A process that ends all with `mark` in their environment when this one dies, or `end` is near.

    For processes that others start and give no handle of. Linux alone shows another process's
    environment; elsewhere nothing is ended. Close its standard input to have it done now.
    """
    return popen([*_this_file(), _MARKED, mark], dict(os.environ))


def end_own_group() -> None:
    """Ends this process at once, and with it the process group it leads."""
    if hasattr(os, "killpg") and os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _this_file() -> list[str]:
    # Isolated: neither the folder of this file nor the user's environment is on the path.
    return [sys.executable, "-I", __file__]


def _wait_and_end() -> None:
    _wait_for_parent()
    end_own_group()


def _wait_for_parent() -> None:
    """Returns when the parent is gone, or has closed the pipe. Nothing is ever written to it."""
    while os.read(0, 1):
        continue


def _end_marked(mark: str) -> None:
    """SIGKILL to every process of this user that was started with `mark` in its environment."""
    wanted = mark.encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            is_marked = wanted in (folder / "environ").read_bytes().split(b"\0")
            if is_marked and int(folder.name) not in (os.getpid(), os.getppid()):
                os.kill(int(folder.name), signal.SIGKILL)


def _main(arguments: Sequence[str]) -> int:
    if arguments[0] == _MARKED:
        # What ends the parent's group by the keyboard leaves this one, in a group of its own, alive.
        _wait_for_parent()
        _end_marked(arguments[1])
        return 0
    end_with_parent()
    return subprocess.call(arguments, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
