"""The whole config: sections that must agree, names of folders, and defaults that follow others."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from paredown.search.config.schema import Config

TWO = [{"metric": "accuracy"}, {"metric": "onnx_bytes"}]
DIGITS = {"name": "digits"}


def config(**sections):
    return Config.model_validate({"task": DIGITS, "goals": TWO, **sections})


def test_the_task_names_the_run_unless_a_name_is_given():
    assert config().name == "digits"
    assert config(name="my-run.2").name == "my-run.2"


@pytest.mark.parametrize("name", ["../up", "a b", "-a", ".hidden", "a/b", "ü", "a\n"])
def test_a_run_name_is_a_folders_name_everywhere(name):
    with pytest.raises(ValidationError, match="it names the run's folder"):
        config(name=name)


def test_the_runs_folder_is_that_of_the_process_and_not_of_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config().output.folder == tmp_path / "runs"
    assert config(output={"folder": "/a/../b"}).output.folder == Path("/b")


@pytest.mark.parametrize(
    ("goals", "says"),
    [
        ([TWO[0]], "at least two"),
        ([TWO[0], TWO[1], TWO[0]], "delete one of the two 'accuracy'"),
        ([*TWO, {"metric": "latency_s@rpi5-a76-ort"}], r"must be one of .*latency_s"),
        ([*TWO, {"metric": "mean_iou"}], "must be one of loss, accuracy"),
    ],
)
def test_goals_are_two_or_more_metrics_that_there_are(goals, says):
    with pytest.raises(ValidationError, match=says):
        config(goals=goals)


def test_a_further_device_brings_a_goal():
    goals = [*TWO, {"metric": "latency_s@rpi5-a76-ort"}]
    found = config(goals=goals, hardware={"also": ["rpi5-a76-ort"]})
    assert found.goals[-1].metric == "latency_s@rpi5-a76-ort"


@pytest.mark.parametrize(
    ("architecture", "says"),
    [
        ({"model": "resnet20"}, "is for task cifar10"),
        ({"weights": __file__}, "digits trains its own"),
    ],
)
def test_a_network_has_no_key_that_its_task_does_not_use(architecture, says):
    with pytest.raises(ValidationError, match=says):
        config(space={"architectures": {"small": architecture}})


def test_a_password_stands_in_the_environment_alone():
    with pytest.raises(ValidationError, match=r"must hold its password as \$\{NAME\}") as caught:
        config(tracking={"uri": "postgresql://me:hunter2@host/db"})
    assert "hunter2" not in caught.value.errors()[0]["msg"]
    uri = "postgresql://me@host/db"
    assert config(tracking={"uri": uri}).tracking.uri == uri


def test_a_registered_model_is_named_by_the_key_register():
    assert config(tracking={"register": "My digits"}).tracking.register_as == "My digits"
    with pytest.raises(ValidationError, match="MLflow's registry"):
        config(tracking={"register": "a/b"})
