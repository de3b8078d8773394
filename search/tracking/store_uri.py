"""Whether MLflow can write to `tracking.uri` at all, asked before a search and not after it.

A server that does not answer is another matter: a search goes on without it, and what it missed is
written with `--resume`.
"""

from __future__ import annotations

import importlib
import os

from paredown.search.config.mistakes import ConfigError
from paredown.search.config.reading import tracking_uri
from paredown.search.config.schema import Config

_SERVERS = ("http", "https", "databricks", "databricks-uc")
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_ALLOWS_FOLDERS = "MLFLOW_ALLOW_FILE_STORE"
_FORMS = "a database (sqlite:////folder/mlflow.db, postgresql://...) or a server (https://...)"


def check_store(config: Config) -> None:
    """Refuses a URI of a kind that MLflow does not write to here. Nothing is connected to.

    Raises:
        ConfigError: The message names the kind, and not the URI, which may hold a password.
    """
    uri = tracking_uri(config)
    if uri is None or uri in _SERVERS:
        return
    scheme, found, rest = uri.partition("://")
    kind = scheme.partition("+")[0].lower()
    if not found or kind == "file":
        if os.environ.get(_ALLOWS_FOLDERS, "").lower() not in ("true", "1"):
            raise ConfigError(
                f"tracking.uri: must be {_FORMS}, got a path; MLflow no longer writes to folders, so "
                "write sqlite:/// before the path of a file"
            )
    elif kind not in (*_SERVERS, *_DATABASES):
        raise ConfigError(
            f"tracking.uri: must be {_FORMS}, got one of kind {scheme}://; change it"
        )
    elif kind == "sqlite" and not rest.strip("/"):
        raise ConfigError(
            "tracking.uri: must name the file of an SQLite database, got none behind sqlite://; write "
            "sqlite:////folder/mlflow.db, or null for one in the run's folder"
        )
    elif kind in _DATABASES:
        _check_driver(uri, kind)


def _check_driver(uri: str, kind: str) -> None:
    url = importlib.import_module("sqlalchemy.engine.url")
    try:
        url.make_url(uri).get_dialect().import_dbapi()
    except ImportError as error:
        raise ConfigError(
            f"tracking.uri: {kind} needs a Python driver, got no module {error.name!r}; install it"
        ) from None
    except (
        Exception
    ) as error:  # SQLAlchemy raises many types for one fact: it cannot read this URI
        name = type(error).__name__
        raise ConfigError(
            f"tracking.uri: must be {_FORMS}, got one of kind {kind} that cannot be read ({name}); "
            "write user:password@host:port/database behind ://"
        ) from None
