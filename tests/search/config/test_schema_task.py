"""Tasks: built-in ones and the user's own, with files that exist and names that can be imported."""

import pytest
from pydantic import TypeAdapter, ValidationError

from paredown.search.config.schema_task import (
    Cifar10Task,
    CustomTask,
    DigitsTask,
    HuggingFaceTask,
    ParquetFiles,
    TaskSection,
)

HF = {"name": "hf", "kind": "text-classification", "model": "a/b", "data": {"dataset": "c/d"}}
OWN = {"name": "custom", "model": "mine:model", "data": "mine.data:splits"}


@pytest.fixture
def task(tmp_path):
    """The task section of a config in `tmp_path`."""
    for name in ("w.safetensors", "train.parquet", "test.parquet"):
        (tmp_path / name).touch()
    (tmp_path / "copy").mkdir()
    adapter = TypeAdapter(TaskSection)
    return lambda **keys: adapter.validate_python(keys, context={"folder": tmp_path})


def cifar10(task, dataset):
    return task(name="cifar10", weights="w.safetensors", dataset=dataset).dataset


def test_the_name_decides_the_task(task, tmp_path):
    assert isinstance(task(name="digits"), DigitsTask)
    own = task(**OWN)
    assert isinstance(own, CustomTask)
    assert own.code_folder == tmp_path
    found = task(name="cifar10", weights="w.safetensors")
    assert isinstance(found, Cifar10Task)
    assert found.weights == tmp_path / "w.safetensors"


def test_a_data_set_is_a_hub_id_a_folder_or_two_files(task, tmp_path):
    assert cifar10(task, "uoft-cs/cifar10") == "uoft-cs/cifar10"
    # Without a dot in front, what looks like the folder is an id.
    assert cifar10(task, "copy") == "copy"
    assert cifar10(task, "./copy") == tmp_path / "copy"
    assert cifar10(task, str(tmp_path / "copy")) == tmp_path / "copy"
    files = cifar10(task, {"train": "train.parquet", "test": "test.parquet"})
    assert files == ParquetFiles.model_construct(
        train=tmp_path / "train.parquet", test=tmp_path / "test.parquet"
    )


@pytest.mark.parametrize(
    ("metric", "name"),
    [("mean_iou", "mean_iou"), ("mine.metrics:f_score", "f_score"), ("accuracy", "accuracy")],
)
def test_a_metric_of_ones_own_is_a_goal_by_the_name_of_its_function(task, metric, name):
    assert task(**OWN, metric=metric, loss="mse").metric_name == name
    assert task(name="digits").metric_name == "accuracy"


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"name": "mnist"}, "digits"),
        ({"name": "cifar10"}, "weights"),
        ({"name": "cifar10", "weights": "none.safetensors"}, "none at .*none.safetensors"),
        ({**OWN, "code_folder": "none"}, "must be a folder that exists"),
        ({**OWN, "model": "mine"}, "package.module:name"),
        ({**OWN, "model": "mine:a.b"}, "package.module:name"),
        ({**OWN, "model": "2mine:model"}, "package.module:name"),
        ({**OWN, "metric": "acuracy"}, "accuracy, mean_iou, mse, perplexity or your"),
        ({**OWN, "loss": "hinge"}, "cross_entropy, sequence_cross_entropy, mse or your"),
        ({**OWN, "metric": "mine:f"}, "has no usual loss; set task.loss"),
        ({**HF, "kind": "translation"}, "text-classification', 'token-classification"),
        ({**HF, "model": "./none"}, "must be a folder that exists"),
        ({**HF, "data": {}}, r"`dataset` must say what train, search, test are splits of"),
        ({**HF, "data": {"train": "./none.csv"}}, "must be a file that exists"),
        (
            {**HF, "kind": "causal-lm", "data": {"dataset": "c/d", "columns": {"pair": "x"}}},
            r"`data.columns.pair` is not for kind causal-lm; delete it",
        ),
        (
            {**HF, "kind": "causal-lm", "data": {"dataset": "c/d", "columns": {"label": "x"}}},
            r"`data.columns.label` is not for kind causal-lm; delete it",
        ),
        ({"name": "digits", "seed": -1}, "greater than or equal to 0"),
        ({"name": "digits", "calibration_images": 899}, "less than or equal to 898"),
    ],
)
def test_what_is_not_there_or_cannot_be_imported_is_refused(task, keys, says):
    with pytest.raises(ValidationError, match=says):
        task(**keys)


@pytest.mark.parametrize(
    ("kind", "metric"),
    [
        ("text-classification", "accuracy"),
        ("token-classification", "f1"),
        ("image-classification", "accuracy"),
        ("causal-lm", "perplexity"),
    ],
)
def test_the_kind_of_a_hugging_face_model_decides_its_metric(task, kind, metric):
    assert task(**{**HF, "kind": kind}).metric_name == metric


def test_what_begins_like_a_path_is_a_file_of_this_machine_and_all_else_is_of_the_hub(
    task, tmp_path
):
    files = {"train": "./train.parquet", "search": "./test.parquet", "test": "./test.parquet"}
    here = task(**{**HF, "model": "./copy", "data": files})
    assert here.model == tmp_path / "copy"
    assert here.data.train == tmp_path / "train.parquet"
    hub = task(**HF)
    assert isinstance(hub, HuggingFaceTask)
    assert hub.model == "a/b"
    assert hub.data.search == "validation"
