"""MLflow's page on a run's store: served on this machine until it is ended, and gone afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable

from paredown.search.tracking.mlflow_store import TrackingError
from paredown.spaces.system.parent_watch import guarded

LOOPBACK = "127.0.0.1"
_STARTING_S, _ENDING_S = 120.0, 10.0
_POLL_S = 0.2


def serve(
    uri: str,
    port: int,
    address_of: Callable[[str], str],
    announce: Callable[[str], None],
) -> int:
    """Serve MLflow's page until it is interrupted; the server's exit status, 0 after an interrupt.

    Args:
        uri: The store, no server. It may hold a password, so no process gets it as an argument.
        address_of: From the server's address to that of what is to be looked at, found while the
            server starts.
        announce: Called with this address once the server answers.

    Raises:
        TrackingError: The port is taken, or the server does not answer in two minutes.
    """
    _check_is_free(port)
    server = [sys.executable, "-m", "mlflow", "server", "--host", LOOPBACK]
    # Without a line for each request.
    quiet = ["--uvicorn-opts", "--log-level warning"]
    command = [*server, "--port", str(port), "--workers", "1", *quiet]
    # Its job runner is for judges of language models: seven more processes.
    ours = {"MLFLOW_BACKEND_STORE_URI": uri, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    address = f"http://{LOOPBACK}:{port}"
    with guarded(command, {**os.environ, **ours}) as process:
        try:
            page = address_of(address)
            if _answers(process, address):
                announce(page)
            return process.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            _end(process)


def _answers(process: subprocess.Popen[bytes], address: str) -> bool:
    """Whether the server answers, which is waited for; False where it has ended instead."""
    since_s = time.monotonic()
    while process.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=1):
                return True
        except OSError:
            time.sleep(_POLL_S)
        if time.monotonic() - since_s > _STARTING_S:
            raise TrackingError(
                f"MLflow's server must answer within {_STARTING_S:.0f} s, got nothing from "
                f"{address}; its messages are above"
            )
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the server with its workers: asked first, and killed where that does not help."""
    for ending in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, ending)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_ENDING_S)


def _check_is_free(port: int) -> None:
    with socket.socket() as server:
        # As the server binds it: a connection that was closed a moment ago is in nobody's way.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((LOOPBACK, port))
        except OSError as error:
            raise TrackingError(
                f"the port must be free, got {port}: {error.strerror}; take another with --port"
            ) from None
