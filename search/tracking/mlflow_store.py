"""MLflow's store of a run folder: connecting, finding a run again, models."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from paredown.search.tracking.mlflow_text import FOLDER_TAG, KEY_TAG, PARENT_TAG, SEARCH_TAG
from paredown.search.tracking.sqlite_store import make_database
from paredown.spaces.system.errors import ParedownError
from paredown.spaces.system.foreign_text import without_passwords

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SETTINGS = {
    # It would print the address of every run, with the password that the store's has.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # The default, 7 retries of up to 120 s each, would hold a finished search for many minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
# What the experiment is about, which MLflow's page would otherwise guess and ask.
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}


class TrackingError(ParedownError):
    """A run that is not one of ours, or a store that cannot be served."""


def default_uri(run_folder: Path) -> str:
    """SQLite inside `run_folder`, absolute."""
    return f"sqlite:///{run_folder.resolve() / 'mlflow.db'}"


def load_mlflow() -> ModuleType:
    """The module `mlflow`, imported with short retries and without its notices.

    It reads its settings when first imported, so nothing else of ours imports it first; what
    the user has set already is kept.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    import mlflow
    import mlflow.exceptions

    # A notice for each table that is made in a new store; errors come as exceptions and are reported.
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
            f"the run must exist in {without_passwords(uri)}, got {run_id} ({error.message}); give "
            "the store's URI or the run folder it belongs to"
        ) from None
    return Path(parent.data.tags[FOLDER_TAG]), tags[KEY_TAG]


def run_address(uri: str, search_id: str, server: str) -> str | None:
    """Where MLflow's page shows the run of a search; None where the store at `uri` has none.

    Args:
        server: Address of the server that serves the page.
    """
    client = connect(uri)
    experiments = [str(each.experiment_id) for each in client.search_experiments()]
    found = client.search_runs(experiments, filter_string=f"tags.`{SEARCH_TAG}` = '{search_id}'")
    if not found:
        return None
    info = found[0].info
    return f"{server.rstrip('/')}/#/experiments/{info.experiment_id}/runs/{info.run_id}"


def is_server(uri: str) -> bool:
    """Whether the store at `uri` is a server, which shows its own page."""
    return uri.startswith(("http://", "https://", "databricks"))
