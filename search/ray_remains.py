"""No process of a Ray cluster of our own outlives its driver, however that ends.

Ray ends most of its processes with the driver. Killed by kill -9, the driver leaves the agents of the
node and workers that are just beginning, for minutes or for good.
"""

from __future__ import annotations

import os
import signal
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from paredown.search.parent_watch import end_marked_with_parent

_MARK = "PAREDOWN_CLUSTER"


@contextmanager
def no_remains() -> Iterator[None]:
    """Processes started meanwhile, and all that they start, end with this block or this process.

    Only what is started by this process before `unmark` counts.
    """
    value = uuid.uuid4().hex
    watch = end_marked_with_parent(f"{_MARK}={value}")
    os.environ[_MARK] = value
    try:
        yield
    finally:
        unmark()
        assert watch.stdin is not None
        watch.stdin.close()
        watch.wait()


def unmark() -> None:
    """What is started from now on is no part of the cluster."""
    os.environ.pop(_MARK, None)


@contextmanager
def own_sigterm() -> Iterator[None]:
    """Keeps the handler of SIGTERM: `ray.init` puts one in its place that exits."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
