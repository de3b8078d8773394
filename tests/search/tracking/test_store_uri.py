"""Addresses that MLflow cannot write to are refused before a search, without the password in them."""

import pytest

from paredown.search.config.mistakes import ConfigError
from paredown.search.config.reading import load_config
from paredown.search.tracking.store_uri import check_store

GOALS = "goals: [{metric: accuracy}, {metric: onnx_bytes}]\n"


@pytest.fixture
def config_of(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("SECRET", "hunter2")

    def make(uri):
        path = tmp_path / "a.yaml"
        path.write_text(f"task: {{name: digits}}\n{GOALS}tracking: {{uri: '{uri}'}}\n")
        return load_config(path)

    return make


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite:////tmp/mlflow.db",
        "http://127.0.0.1:5000",
        "https://me:${SECRET}@mlflow.example.org/path",
        "databricks",
        "databricks-uc://profile",
        "sqlite+pysqlite:////tmp/mlflow.db",
    ],
)
def test_databases_and_servers_are_taken(config_of, uri):
    check_store(config_of(uri))


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("/home/me/mlruns", "got a path"),
        ("file:///home/me/mlruns", "got a path"),
        ("mlruns", "got a path"),
        ("ftp://me:${SECRET}@host/a", "got one of kind ftp://"),
        ("sqlite://", "must name the file"),
        ("sqlite:///", "must name the file"),
        ("postgresql+nodriver://me:${SECRET}@host/a", "of kind postgresql that cannot be read"),
        ("mssql+pymssql://me:${SECRET}@host/a", "no module 'pymssql'; install it"),
    ],
)
def test_what_cannot_be_written_to_is_refused_without_its_password(config_of, uri, said):
    with pytest.raises(ConfigError, match=r"^tracking\.uri: ") as caught:
        check_store(config_of(uri))
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_folder_is_taken_where_mlflow_is_told_to_take_it(config_of, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "True")
    check_store(config_of("/home/me/mlruns"))
    check_store(config_of("file:///home/me/mlruns"))
