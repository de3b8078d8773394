"""MLflow's store of a run folder: connecting, finding a run again, serving the page."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from paredown.search.mlflow_text import FOLDER_TAG, KEY_TAG, PARENT_TAG
from paredown.search.sqlite_store import make_database

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # The default, 7 retries of up to 120 s each, would hold a finished search for many minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
# What the experiment is about, which MLflow's page would otherwise guess and ask.
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
LOOPBACK = "127.0.0.1"


class TrackingError(ValueError):
    """A run that is not one of ours, or a store that cannot be served."""


def default_uri(run_folder: Path) -> str:
    """SQLite inside `run_folder`, absolute."""
    return f"sqlite:///{run_folder.resolve() / 'mlflow.db'}"


def load_mlflow() -> ModuleType:
    """The module `mlflow`, imported without telemetry and with short retries.

    It reads its settings when first imported, so nothing else of ours imports it first; whoever
    has set one already keeps what was set.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    import mlflow
    import mlflow.exceptions

    # A notice for each table that is made in a new store; errors come as exceptions, too, and are told.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    return mlflow


def connect(uri: str) -> MlflowClient:
    """A client of the store at `uri`, for runs and registered models."""
    mlflow = load_mlflow()
    make_database(uri)
    client: MlflowClient = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
    return client


def experiment_id_of(client: MlflowClient, name: str, artifacts: str | None) -> str:
    """Id of the experiment `name`, made if need be with its files under `artifacts`."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    return str(client.create_experiment(name, artifact_location=artifacts, tags=_EXPERIMENT_TAGS))


def find_run(uri: str, run_id: str) -> tuple[Path, str]:
    """Run folder and candidate key of the MLflow run `run_id`, as `--mlflow-run` needs them.

    Raises:
        TrackingError: The run does not exist or is not an evaluation of a search.
    """
    client = connect(uri)
    from mlflow.exceptions import MlflowException

    try:
        tags = client.get_run(run_id).data.tags
        if KEY_TAG not in tags or PARENT_TAG not in tags:
            raise TrackingError(
                f"an evaluation's run has the tag {KEY_TAG!r}, got run {run_id} without; pick one "
                "of the runs below the search's own"
            )
        parent = client.get_run(tags[PARENT_TAG])
    except MlflowException as error:
        raise TrackingError(
            f"the run must exist in {uri}, got {run_id} ({error.message}); give the store's URI "
            "or the run folder it belongs to"
        ) from None
    return Path(parent.data.tags[FOLDER_TAG]), tags[KEY_TAG]


def server_command(uri: str, port: int) -> list[str]:
    """The command that serves MLflow's page on `uri`, on this machine only.

    Raises:
        TrackingError: `uri` is a server already.
    """
    if uri.startswith(("http://", "https://", "databricks")):
        raise TrackingError(f"a store is served once, got a server: open {uri} in the browser")
    server = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    return [*server, "--host", LOOPBACK, "--port", str(port), "--workers", "1"]


def serve(uri: str, port: int, announce: Callable[[str], None]) -> int:
    """Serve MLflow's page until interrupted; the server's exit status, 0 after Ctrl-C.

    Raises:
        TrackingError: `uri` is a server already, or the port is taken.
    """
    command = server_command(uri, port)
    _check_is_free(port)
    # Its job runner is for judges of language models: seven more processes.
    ours = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    announce(f"http://{LOOPBACK}:{port}")
    # A group of its own, as the server leaves its workers behind when it alone is ended.
    with subprocess.Popen(command, env={**ours, **os.environ}, start_new_session=True) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)


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
