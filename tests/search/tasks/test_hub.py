"""Data sets from a folder laid out as on the hub, and what is told without a network."""

import io
import json
import socket

import datasets
import huggingface_hub
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from paredown.search.config.reading import ConfigError, dump_config, load_config
from paredown.search.tasks import hub
from paredown.search.tasks.cifar10 import cifar10_splits
from paredown.search.tasks.hub import file_rows, hub_folder, hub_rows
from paredown.search.tasks.splits import DataError

# The card of uoft-cs/cifar10, with fewer rows.
CARD = """\
---
dataset_info:
  config_name: plain_text
  features:
  - name: img
    dtype: image
  - name: label
    dtype:
      class_label:
        names:
          '0': airplane
          '1': automobile
  splits:
  - name: train
    num_examples: 20
  - name: test
    num_examples: 9
configs:
- config_name: plain_text
  data_files:
  - split: train
    path: plain_text/train-*
  - split: test
    path: plain_text/test-*
  default: true
---
# CIFAR-10
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A copy of the hub's repository: its folder, the pixels and the labels in row order."""
    monkeypatch.setenv("PAREDOWN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hf"))
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (29, 32, 32, 3), dtype=np.uint8)
    labels = [int(label) for label in generator.integers(0, 2, 29)]
    folder = tmp_path / "copy"
    (folder / "plain_text").mkdir(parents=True)
    (folder / "README.md").write_text(CARD)
    for part, rows in (("train", slice(0, 20)), ("test", slice(20, 29))):
        cells = [{"bytes": _png(image), "path": ""} for image in pixels[rows]]
        table = pa.table({"img": cells, "label": labels[rows]})
        pq.write_table(table, folder / "plain_text" / f"{part}-00000-of-00001.parquet")
    return folder, pixels, labels


@pytest.fixture
def no_network(tmp_path, monkeypatch):
    """A hub whose address nobody listens on, and an empty cache."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", endpoint)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(hub.urllib.request, "getproxies", dict)
    return endpoint


def _png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG")
    return file.getvalue()


def config_of(folder, dataset):
    (folder / "w.safetensors").touch()
    path = folder / "c.yaml"
    path.write_text(
        f"task: {{name: cifar10, weights: w.safetensors, dataset: {dataset},"
        " calibration_images: 16, search_rows: 6}\n"
        "goals: [{metric: accuracy}, {metric: macs}]\n"
    )
    return load_config(path)


def test_a_folder_laid_out_as_the_hub_gives_its_rows_in_order(tmp_path, repository):
    _, pixels, labels = repository
    splits = cifar10_splits(config_of(tmp_path, "./copy").task)
    test = splits.open_test()
    assert np.array_equal(splits.search.inputs[0].permute(0, 2, 3, 1), pixels[20:26])
    assert np.array_equal(test.inputs[0].permute(0, 2, 3, 1), pixels[26:])
    assert splits.open_train().targets.tolist() == labels[:20]
    assert len(splits.calibration) == 16


def test_a_folder_is_found_from_the_configs_own_and_stays_found(tmp_path, repository, monkeypatch):
    folder, *_ = repository
    monkeypatch.chdir("/")
    config = config_of(tmp_path, "./copy")
    assert config.task.dataset == folder
    (tmp_path / "elsewhere").mkdir()
    written = tmp_path / "elsewhere" / "config.yaml"
    written.write_text(dump_config(config))
    assert load_config(written) == config
    with pytest.raises(ConfigError, match=r"task\.dataset.*there is none at .*nowhere"):
        config_of(tmp_path, "./nowhere")


def test_a_split_that_is_not_there_is_told(repository):
    with pytest.raises(DataError, match=r"split 'validation'.*copy.*check the name"):
        hub_rows(repository[0], "validation")


def test_a_folder_without_data_is_told(tmp_path, repository):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"must give a split 'test'.*empty"):
        hub_rows(tmp_path / "empty", "test")


def test_without_a_network_the_hub_is_not_asked_twice(no_network, tmp_path):
    with pytest.raises(DataError) as told:
        hub_rows("uoft-cs/cifar10", "test")
    message = str(told.value)
    assert f"'uoft-cs/cifar10': {no_network} cannot be reached (Connection refused)" in message
    assert f"no copy is in {tmp_path / 'hf'}" in message
    assert "{train: FILE, test: FILE}" in message
    assert not datasets.config.HF_HUB_OFFLINE


def test_without_a_network_a_model_is_looked_for_in_the_cache_alone(
    no_network, tmp_path, monkeypatch
):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", no_network)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "models"))
    with pytest.raises(
        DataError, match=r"task\.model: .*got 'a/b': .*cannot be reached .*\(\./model\)"
    ):
        hub_folder("a/b", None)


@pytest.mark.parametrize("name", ["rows.csv", "rows.json", "rows.jsonl", "rows.parquet"])
def test_a_file_gives_its_rows(tmp_path, name):
    rows = [{"text": "a", "label": 1}, {"text": "b", "label": 0}]
    path = tmp_path / name
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        path.write_text("text,label\na,1\nb,0\n")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert list(file_rows(path, "task.data.train")) == rows


def test_a_file_that_holds_no_rows_is_refused(tmp_path):
    (tmp_path / "rows.txt").write_text("a")
    (tmp_path / "rows.parquet").write_text("a")
    with pytest.raises(DataError, match=r"task\.data\.train: must be a file that ends in \.csv"):
        file_rows(tmp_path / "rows.txt", "task.data.train")
    with pytest.raises(DataError, match=r"task\.data\.train: must be a whole parquet file, got "):
        file_rows(tmp_path / "rows.parquet", "task.data.train")
