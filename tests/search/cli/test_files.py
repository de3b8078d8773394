"""`paredown init`, `runs` and `cache` as a user types them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from paredown.search.config.reading import load_config
from paredown.search.config.schema_task import HuggingFaceTask

ROOT = Path(__file__).resolve().parents[3]
OWN = ROOT / "examples" / "own_model"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copytree(OWN / "my_project", tmp_path / "my_project")
    shutil.copy(OWN / "trained.safetensors", tmp_path)
    return tmp_path


def typed(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    # In a process of its own: the user's modules are imported from the current folder.
    code = "from paredown.search.cli.commands import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *words], cwd=folder, capture_output=True, text=True
    )


def test_a_config_is_written_that_inspect_reads(project: Path) -> None:
    words = ["my_project.model:make_model", "--data", "my_project.data:make_splits"]
    words += ["--metric", "my_project.data:within_tolerance", "--loss", "mse"]
    done = typed(project, "init", *words, "--weights", "trained.safetensors")
    assert done.returncode == 0, done.stderr
    assert "set task.kwargs in it: channels" in done.stdout
    assert "set task.data_kwargs in it: rows, seed" in done.stdout
    text = (project / "paredown.yaml").read_text()
    text = text.replace("channels: null", "channels: 32")
    (project / "paredown.yaml").write_text(
        text.replace("rows: null", "rows: 400").replace("seed: null", "seed: 0")
    )
    shown = typed(project, "inspect", "paredown.yaml", "--json")
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)


def test_a_data_factory_that_does_not_exist_yet_is_named(project: Path) -> None:
    done = typed(project, "init", "my_project.model:make_model", "--output", "first.yaml")
    assert done.returncode == 0, done.stderr
    assert "write my_project.model:make_splits" in done.stdout
    assert (project / "first.yaml").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["my_project.model"], "must be package.module:name"),
        (["my_project.nothing:make"], "no module named 'my_project.nothing'"),
        (["my_project.model:nothing"], "nothing of that name"),
        (["my_project.model:make_model", "--data", "my_project.data:nothing"], "--data"),
        (["my_project.model:make_model", "--metric", "acuracy"], "task.metric"),
        (["my_project.model:make_model", "--weights", "none.safetensors"], "task.weights"),
    ],
)
def test_a_mistake_is_a_sentence_and_nothing_is_written(
    project: Path, words: list[str], said: str
) -> None:
    done = typed(project, "init", *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (project / "paredown.yaml").exists()


def test_a_config_of_a_hugging_face_folder_is_written_beside_it(tmp_path: Path) -> None:
    (tmp_path / "bert").mkdir()
    (tmp_path / "rows").mkdir()
    facts = {"architectures": ["BertForSequenceClassification"], "max_position_embeddings": 64}
    (tmp_path / "bert" / "config.json").write_text(json.dumps(facts))
    (tmp_path / "configs").mkdir()
    words = ["./bert", "--data", "./rows", "--output", "configs/bert.yaml"]
    done = typed(tmp_path, "init", *words)
    assert done.returncode == 0, done.stderr
    task = load_config(tmp_path / "configs" / "bert.yaml").task
    assert isinstance(task, HuggingFaceTask)
    assert task.model == tmp_path / "bert"
    assert task.data.dataset == tmp_path / "rows"
    for missing, said in (
        (["./bert"], "--data must name rows for bert"),
        (["./none", "--data", "./rows"], "must hold config.json of a Hugging Face model"),
        (["./bert", "--data", "./rows", "--loss", "mse"], "are of a network of your own"),
        (["./bert", "--data", "./nothing"], "must be a folder that exists"),
    ):
        done = typed(tmp_path, "init", *missing)
        assert done.returncode == 2
        assert said in " ".join(done.stderr.split())
        assert not (tmp_path / "paredown.yaml").exists()


def test_a_config_that_exists_is_kept(project: Path) -> None:
    (project / "paredown.yaml").write_text("mine")
    done = typed(project, "init", "my_project.model:make_model")
    assert done.returncode == 2
    assert (project / "paredown.yaml").read_text() == "mine"


def test_runs_of_a_folder_without_any(paredown, tmp_path: Path) -> None:
    done = paredown("runs", tmp_path)
    assert done.exit_code == 0
    assert "no run lies in" in done.output
    assert paredown("runs", tmp_path / "none").exit_code == 2
    assert json.loads(paredown("runs", tmp_path, "--json").output) == []


def test_the_cache_is_shown_and_cleared(
    paredown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAREDOWN_CACHE", str(tmp_path))
    (tmp_path / "solutions").mkdir()
    (tmp_path / "solutions" / "a.safetensors").write_bytes(b"x" * 2000)
    (tmp_path / "digits.safetensors").write_bytes(b"x" * 1000)
    shown = json.loads(paredown("cache", "--json").output)
    assert shown["folder"] == str(tmp_path)
    assert {kind["name"]: kind["files"] for kind in shown["kinds"]}["solutions"] == 1
    assert paredown("cache", "solutions").exit_code == 2
    assert paredown("cache", "--clear", "solution").exit_code == 2
    cleared = json.loads(paredown("cache", "--clear", "solutions", "--json").output)
    assert cleared["freed_bytes"] == 2000
    assert "deleted 1.000 kB" in paredown("cache", "--clear").output
