"""All that writing to MLflow imports, imported at once and before there is a second thread.

A module that one thread is importing is half there for every other: plotly, say, looks whether
pandas is imported, and would ask one without `Series` for it. So the writer's thread imports
nothing; the thread that starts it does.
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec

from paredown.search.tracking.mlflow_store import load_mlflow

_MODULES = (
    # Making a store's tables, and talking to it.
    "alembic.command",
    "alembic.config",
    "sqlalchemy.dialects.sqlite",
    "mlflow.store.db.trace_analytics_backfill_75868b020152",
    "mlflow.store.db.trace_analytics_schema_75868b020152",
    "mlflow.store.tracking.sqlalchemy_workspace_store",
    "mlflow.store.model_registry.sqlalchemy_workspace_store",
    "mlflow.store.tracking.file_store",
    "mlflow.tracking.request_header.registry",
    "mlflow.utils.search_logged_model_utils",
    "netrc",
    # Runs, files and models.
    "mlflow.entities",
    "mlflow.models",
    "mlflow.onnx",
    "mlflow.pyfunc",
    "onnx",
    "onnxruntime",
)


def load_all() -> None:
    """Imports what the writer needs; 2 to 4 s, less where torch and Ray have brought most of it.

    Names below `mlflow.store` change between its versions; those that this one has not, it does not
    import either.
    """
    load_mlflow()
    for name in _MODULES:
        if find_spec(name) is not None:
            importlib.import_module(name)
