"""Processes that end with the one that started them, however that one ends: kill -9 included.

The child holds the reading end of a pipe whose writing end only its parent has. When the parent
dies, the kernel closes that end and the child reads the end of the file; nothing is polled, and it
works alike on every system. A child runs in a process group of its own and ends it whole, for what
it has started itself (a server's workers, a metric's data loaders) would live on otherwise.

Run as a program, this file is the parent of a command, so that it is watched before it has imported
anything; or it ends all processes that keep certain files open, which nothing else distinguishes. It
needs the standard library alone, to start at once.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

_HOLDERS = "--end-holders-of"
_PASSES, _PAUSE_S = 4, 0.5
"""Looks for holders, as a process that was just started may hold nothing yet."""


def guarded(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    output: IO[str] | None = None,
) -> subprocess.Popen[bytes]:
    """Starts a command that ends with this process; `end` ends it before. Its input is empty.

    Args:
        output: Gets its standard output and errors; those of this process by default.
    """
    return subprocess.Popen(
        [*_this_file(), *command],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        env=None if environment is None else dict(environment),
        start_new_session=True,
    )


def end(process: subprocess.Popen[bytes], number: int = signal.SIGKILL) -> None:
    """Sends a signal to a process that leads a group, and to the whole group, and waits for it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, number)
        else:
            process.kill()
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    process.wait()


def end_holders_with_parent(pattern: str) -> subprocess.Popen[bytes]:
    """A process that ends all those that keep a file open whose path fits, when this one dies.

    For processes that others start and give no handle of. Where there is no /proc nothing is ended.
    Closing its standard input has it done at once.
    """
    return guarded([_HOLDERS, pattern])


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


def _end_holders(pattern: str) -> None:
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        if pid not in (os.getpid(), os.getppid()) and _holds(folder, pattern):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def _holds(process: Path, pattern: str) -> bool:
    with contextlib.suppress(OSError):  # it has ended, or is another user's
        return any(
            fnmatch.fnmatch(os.readlink(link), pattern) for link in (process / "fd").iterdir()
        )
    return False


def _main(arguments: Sequence[str]) -> None:
    if arguments[0] == _HOLDERS:
        _wait_for_parent()
        for _ in range(_PASSES):
            _end_holders(arguments[1])
            time.sleep(_PAUSE_S)
        return
    threading.Thread(target=_wait_and_end, daemon=True).start()
    code = subprocess.call(arguments, stdin=subprocess.DEVNULL)
    if code < 0:  # it ends as its command did, for its parent to see
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    _main(sys.argv[1:])
