"""Tasks from the config to networks and splits: digits, CIFAR-10 and the user's own."""

import io
import os
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from paredown.search import cache, digits
from paredown.search.cifar10 import MEAN, STD, cifar10_splits
from paredown.search.config import load_config
from paredown.search.resnet import resnet
from paredown.search.splits import DataError
from paredown.search.tasks import TaskError, load_task, load_weights
from paredown.search.user_code import UserCodeError, load_function

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("PAREDOWN_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PAREDOWN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def clean_imports():
    """Forgets what a test imported, so that folders of different tests do not meet."""
    modules, path = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.split(".")[0] in ("my_project", "mine"):
            del sys.modules[name]


def accuracy(task, split):
    tally = task.metric.tally()
    with torch.no_grad():
        for inputs, targets in split.batches(256):
            tally.add((task.module(*inputs),), targets)
    return tally.value()


def test_digits_are_right_on_98_percent_of_images_never_seen(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("task: {name: digits}\ngoals: [{metric: accuracy}, {metric: macs}]\n")
    task = load_task(load_config(path))
    assert 30_000 <= sum(p.numel() for p in task.module.parameters()) <= 60_000
    assert accuracy(task, task.splits.open_test()) >= 0.98
    assert accuracy(task, task.splits.search) >= 0.98
    assert not task.module.training
    assert list(task.modules) == [""]
    assert task.example[0].shape == (1, 1, 8, 8)


def test_digits_splits_share_no_image_and_hold_every_digit_equally():
    parts = {name: digits.digits_split(name, 3) for name in ("train", "search", "test")}
    assert sum(len(part) for part in parts.values()) == 1797
    images = torch.cat([part.inputs[0].flatten(1) for part in parts.values()])
    # Sorted rows equal those of the whole data set: a partition, each image once.
    whole = digits._load()[0].flatten(1)
    assert sorted(map(tuple, images.tolist())) == sorted(map(tuple, whole.tolist()))
    for part in parts.values():
        shares = torch.bincount(part.targets, minlength=10) / len(part)
        assert shares.max() - shares.min() < 0.015


def test_training_is_deterministic_and_leaves_the_global_generator_alone(monkeypatch):
    monkeypatch.setattr(digits, "_EPOCHS", 1)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = digits._train(0, 16)
    assert torch.equal(torch.rand(1), expected)
    second, other = digits._train(0, 16), digits._train(1, 16)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_digits_are_trained_once_and_then_read_from_the_cache(own_cache, monkeypatch):
    calls = []
    train = digits._train
    monkeypatch.setattr(digits, "_EPOCHS", 1)
    monkeypatch.setattr(digits, "_train", lambda *args: calls.append(args) or train(*args))
    first, second = digits.trained_digits(0, 16), digits.trained_digits(0, 16)
    assert calls == [(0, 16)]
    assert torch.equal(first.linear.weight, second.linear.weight)
    digits.trained_digits(1, 16)
    assert len(calls) == 2


def test_no_digits_architecture_is_larger_than_the_reference(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(
        "task: {name: digits}\ngoals: [{metric: accuracy}, {metric: macs}]\n"
        "space: {architectures: {big: {kwargs: {inner: 512}}}}\n"
    )
    with pytest.raises(TaskError, match="16, 32 or 48"):
        load_task(load_config(path))


def test_a_cached_file_is_whole_or_absent(own_cache):
    def broken():
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError):
        cache.cached_tensors("x", broken)
    assert not own_cache.exists() or not list(own_cache.iterdir())
    cache.cached_tensors("x", lambda: {"a": torch.ones(2)})
    assert [path.name for path in own_cache.iterdir()] == ["x.safetensors"]
    assert cache.cached_tensors("x", broken)["a"].tolist() == [1, 1]


def test_the_digest_keeps_parts_apart(tmp_path):
    (tmp_path / "f").write_bytes(b"ab")
    assert cache.digest("ab", "c") != cache.digest("a", "bc")
    assert cache.digest(tmp_path / "f") == cache.digest(b"ab") == cache.digest("ab")


# Weights and biases counted by hand from the paper's table; option A adds none.
@pytest.mark.parametrize(("name", "count"), [("resnet20", 269_722), ("resnet56", 853_018)])
def test_resnets_have_the_published_number_of_parameters(name, count):
    assert sum(p.numel() for p in resnet(name).parameters()) == count


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


@pytest.mark.cifar
@pytest.mark.skipif(not DATA.is_dir(), reason=f"PAREDOWN_DATA: no such folder {DATA}")
def test_the_published_resnet20_scores_88_percent():
    example = ROOT / "examples" / "cifar10_resnet20.yaml"
    task = load_task(load_config(example, environment={"PAREDOWN_DATA": str(DATA)}))
    # 88.11 % on all 10,000; three standard errors of 1,500 images are 2.5 points.
    tally = task.metric.tally()
    with torch.no_grad():
        for inputs, targets in task.splits.search.batches(250, rows=1500):
            tally.add((task.module(*inputs),), targets)
    assert tally.value() == pytest.approx(0.881, abs=0.025)


def test_the_example_of_the_users_own_model_scores(clean_imports):
    task = load_task(load_config(ROOT / "examples" / "own_model" / "config.yaml"))
    tally = task.metric.tally()
    with torch.no_grad():
        for inputs, targets in task.splits.search.batches(100):
            tally.add((task.module(**inputs),), targets)
    assert tally.value() > 0.95
    assert task.metric.direction == "maximize"
    assert list(task.example) == ["signal", "settings"]
    assert len(task.splits.open_test()) == 600


def write_code(folder, text):
    (folder / "mine.py").write_text(text)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("none_such:f", "no module named 'none_such'"),
        ("mine:g", "nothing of that name"),
        ("mine:number", "a int"),
        ("mine.deeper:f", "no module named"),
    ],
)
def test_code_that_is_not_there_is_named(tmp_path, clean_imports, path, says):
    write_code(tmp_path, "number = 3\ndef f(): return 1\n")
    assert load_function("task.data", "mine:f", tmp_path)() == 1
    with pytest.raises(UserCodeError, match=says):
        load_function("task.data", path, tmp_path)


def test_a_dependency_of_the_users_code_that_is_missing_is_named(tmp_path, clean_imports):
    write_code(tmp_path, "import none_such_either\n")
    with pytest.raises(UserCodeError, match="'none_such_either'; install it"):
        load_function("task.data", "mine:f", tmp_path)


def test_a_module_of_the_same_name_from_elsewhere_is_not_taken_for_the_users(
    tmp_path, clean_imports
):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_code(tmp_path / name, f"def f(): return {name!r}\n")
    assert load_function("task.data", "mine:f", tmp_path / "one")() == "one"
    with pytest.raises(UserCodeError, match="rename one"):
        load_function("task.data", "mine:f", tmp_path / "two")


def test_a_factory_that_returns_no_module_is_named(tmp_path, clean_imports):
    write_code(
        tmp_path,
        "import torch\ndef model(): return 3\n"
        "def data():\n    pair = torch.ones(4, 1), torch.ones(4)\n"
        "    return {'train': pair, 'search': pair, 'test': pair}\n",
    )
    path = tmp_path / "c.yaml"
    path.write_text(
        "task: {name: custom, model: 'mine:model', data: 'mine:data'}\n"
        "goals: [{metric: accuracy}, {metric: macs}]\n"
    )
    with pytest.raises(TaskError, match=r"must return an nn\.Module, got int"):
        load_task(load_config(path))


def test_weights_must_fit(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file({"weight": torch.ones(2, 3), "bias": torch.ones(2)}, path)
    layer = nn.Linear(3, 2)
    load_weights(layer, path)
    assert layer.weight.sum() == 6
    with pytest.raises(TaskError, match=r"must fit Linear, got size mismatch for weight.*kwargs"):
        load_weights(nn.Linear(4, 2), path)
    with pytest.raises(TaskError, match=r"mismatch.* and 1 more; check") as told:
        load_weights(nn.Linear(4, 5), path)
    assert "\n" not in str(told.value)
    with pytest.raises(TaskError, match="1 unknown"):
        load_weights(nn.Linear(3, 2, bias=False), path)
    save_file({"weight": torch.ones(2), "bias": torch.ones(2)}, path)
    with pytest.raises(TaskError, match="2 missing"):  # the two running statistics
        load_weights(nn.BatchNorm1d(2), path)
    path.write_bytes(b"no weights")
    with pytest.raises(TaskError, match="safetensors"):
        load_weights(layer, path)


def test_a_shared_tensor_that_save_model_left_out_is_not_missing(tmp_path):
    tied = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
    tied["b"].weight = tied["a"].weight
    state = {name: t for name, t in tied.state_dict().items() if name != "b.weight"}
    save_file(state, tmp_path / "w.safetensors")
    load_weights(tied, tmp_path / "w.safetensors")
