"""CIFAR-10 from parquet files: decoded exactly, split by row, kept in the cache."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from paredown.search.config.reading import load_config
from paredown.search.tasks.cifar10 import MEAN, STD, cifar10_splits, resnet
from paredown.search.tasks.splits import DataError


def write_parquet(path, pixels, labels, column="img"):
    cells = []
    for image in pixels:
        file = io.BytesIO()
        Image.fromarray(image).save(file, format="PNG")
        cells.append({"bytes": file.getvalue(), "path": ""})
    pq.write_table(pa.table({column: cells, "label": labels}), path)


def cifar_config(folder, search_rows=6):
    path = folder / "c.yaml"
    path.write_text(
        "task:\n  name: cifar10\n  weights: w.safetensors\n  calibration_images: 16\n"
        f"  search_rows: {search_rows}\n  dataset: {{train: train.parquet, test: test.parquet}}\n"
        "goals: [{metric: accuracy}, {metric: macs}]\n"
    )
    return load_config(path)


@pytest.fixture
def small_cifar(tmp_path, own_cache):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (30, 32, 32, 3), dtype=np.uint8)
    labels = list(rng.integers(0, 10, 30))
    write_parquet(tmp_path / "train.parquet", pixels[:20], labels[:20])
    write_parquet(tmp_path / "test.parquet", pixels[20:], labels[20:])
    save_file(resnet("resnet20").state_dict(), tmp_path / "w.safetensors")
    return pixels, labels


def test_cifar_images_are_decoded_exactly_and_split_by_row(tmp_path, small_cifar, own_cache):
    pixels, labels = small_cifar
    splits = cifar10_splits(cifar_config(tmp_path).task)
    test = splits.open_test()
    assert (len(splits.search), len(test), len(splits.calibration)) == (6, 4, 16)
    assert splits.search.inputs[0].dtype == torch.uint8
    assert np.array_equal(splits.search.inputs[0].permute(0, 2, 3, 1), pixels[20:26])
    assert np.array_equal(test.inputs[0].permute(0, 2, 3, 1), pixels[26:])
    assert splits.open_train().targets.tolist() == labels[:20]
    prepared = test.rows(0, 1)[0][0][0, 1, 2, 3]
    assert prepared == pytest.approx((pixels[26][2, 3, 1] / 255 - MEAN[1]) / STD[1], abs=1e-6)
    assert len(list(own_cache.iterdir())) == 2


def test_other_images_are_not_found_in_the_cache_of_the_first(tmp_path, small_cifar, own_cache):
    cifar10_splits(cifar_config(tmp_path).task)
    write_parquet(tmp_path / "test.parquet", 255 - small_cifar[0][20:], small_cifar[1][20:])
    changed = cifar10_splits(cifar_config(tmp_path).task).search.inputs[0]
    assert np.array_equal(changed.permute(0, 2, 3, 1), 255 - small_cifar[0][20:26])


def test_a_table_without_images_is_refused(tmp_path, small_cifar):
    write_parquet(tmp_path / "test.parquet", small_cifar[0][:2], [0, 1], column="picture")
    with pytest.raises(DataError, match="columns img"):
        cifar10_splits(cifar_config(tmp_path).task)


def test_more_search_rows_than_the_file_has_are_refused(tmp_path, small_cifar):
    with pytest.raises(DataError, match="search_rows"):
        cifar10_splits(cifar_config(tmp_path, search_rows=10).task)


# Weights and biases counted by hand from the paper's table; option A adds none.
@pytest.mark.parametrize(("name", "count"), [("resnet20", 269_722), ("resnet56", 853_018)])
def test_resnets_have_the_published_number_of_parameters(name, count):
    assert sum(p.numel() for p in resnet(name).parameters()) == count
