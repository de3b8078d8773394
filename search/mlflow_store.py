"""MLflow's store of a run folder: connecting, finding a run again, serving the page, models."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from paredown.search.mlflow_text import FOLDER_TAG, KEY_TAG, PARENT_TAG
from paredown.search.parent_watch import end, guarded
from paredown.search.scratch import scratch_folder
from paredown.search.sqlite_store import make_database

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

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
    process = guarded(command, {**ours, **os.environ})
    try:
        return process.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        end(process, signal.SIGTERM)


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


def log_onnx_model(
    client: MlflowClient, run_id: str, bundle: Path, key: str, register_as: str | None
) -> str:
    """Log `bundle`/model.onnx as an ONNX model of the run; its MLflow model id.

    What `mlflow.onnx.log_model` does, but through a client with an explicit run, so that no global
    state of MLflow is touched. Nothing is pickled: the flavour stores the ONNX file itself.
    """
    import mlflow.onnx
    import onnx
    import onnxruntime
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    experiment_id = client.get_run(run_id).info.experiment_id
    # A run without a model may have the beginning of one: of a process that was killed meanwhile.
    begun = client.search_logged_models([experiment_id], f"source_run_id = '{run_id}'")
    logged = next(iter(begun), None) or client.create_logged_model(
        experiment_id, name=f"paredown-{key}", source_run_id=run_id, tags={KEY_TAG: key}
    )
    with scratch_folder() as scratch:
        folder = scratch / "model"
        mlflow.onnx.save_model(
            onnx.load(bundle / "model.onnx"),
            folder,
            mlflow_model=Model(
                artifact_path=logged.artifact_location,
                model_uuid=logged.model_id,
                run_id=run_id,
                model_id=logged.model_id,
            ),
            # Named here, as MLflow would otherwise load the model in a new process to infer them.
            pip_requirements=[
                f"onnx=={onnx.__version__}",
                f"onnxruntime=={onnxruntime.__version__}",
            ],
            onnx_execution_providers=["CPUExecutionProvider"],
            save_as_external_data=False,
        )
        client.log_model_artifacts(logged.model_id, str(folder))
    client.finalize_logged_model(logged.model_id, "READY")
    if register_as is not None:
        _register(client, register_as, logged, run_id)
    # Last, as the run's having a model says that all of this is done.
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    return str(logged.model_id)


def _register(client: MlflowClient, name: str, logged: LoggedModel, run_id: str) -> None:
    if not client.search_registered_models(filter_string=f"name = '{name}'"):
        client.create_registered_model(name)
    # A database looks a `models:/` source up in MLflow's global store, not in its own; a server
    # takes nothing else for a local folder.
    is_server = client.tracking_uri.startswith("http")
    source = f"models:/{logged.model_id}" if is_server else logged.artifact_location
    client.create_model_version(name, source=source, run_id=run_id, model_id=logged.model_id)
