"""Tasks from the config to networks and splits: digits, CIFAR-10 and the user's own."""

import os
from pathlib import Path

import pytest
import torch

from paredown.search.config.reading import load_config
from paredown.search.tasks.task import TaskError, load_task

ROOT = Path(__file__).resolve().parents[3]
DATA = Path(os.environ.get("PAREDOWN_DATA", ROOT.parent / "shared" / "data"))


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


def test_no_digits_architecture_is_larger_than_the_reference(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(
        "task: {name: digits}\ngoals: [{metric: accuracy}, {metric: macs}]\n"
        "space: {architectures: {big: {kwargs: {inner: 512}}}}\n"
    )
    with pytest.raises(TaskError, match="16, 32 or 48"):
        load_task(load_config(path))


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
    assert task.metric.quality.direction == "maximize"
    assert list(task.example) == ["signal", "settings"]
    assert len(task.splits.open_test()) == 600
