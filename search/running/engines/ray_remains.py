"""No process of a Ray cluster of our own outlives its driver, however that ends.

Ray ends most of its processes with the driver. Killed by kill -9, the driver leaves the agents of the
node and workers that are just beginning, for minutes or for good. They overwrite their environment
and their command line, but all of them write to the logs of the cluster's session.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from paredown.spaces.system.parent_watch import end, end_holders_with_parent


@contextmanager
def no_remains() -> Iterator[None]:
    """The processes of a cluster that is started meanwhile end with this one, if not before."""
    # Ray names a session by time and process.
    watch = end_holders_with_parent(f"*/session_*_{os.getpid()}/*")
    try:
        yield
    finally:
        end(watch)


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
