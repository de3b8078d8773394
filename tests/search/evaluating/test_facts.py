"""What a resumed run must share with the one it goes on with, and what it need not."""

from dataclasses import replace

import pytest
import torch

from paredown.hardware_models.latency.models import RooflineLatency
from paredown.search.evaluating.facts import problem
from paredown.search.tasks.metrics import loss_named


def changed(workbench, **sections):
    """The workbench under a config with other values in these sections."""
    config = workbench.config
    update = {n: getattr(config, n).model_copy(update=v) for n, v in sections.items()}
    return replace(workbench, config=config.model_copy(update=update))


def differing(workbench, other):
    was, is_now = problem(workbench), problem(other)
    assert was.keys() == is_now.keys()
    return {name for name in was if was[name] != is_now[name]}


def test_length_and_manner_of_the_search_may_change(workbench):
    free = {
        "evaluations": 500,
        "time_budget_s": 3.0,
        "workers": 7,
        "engine": "ray",
        "sampler": "random",
        "batch": 9,
        "promote_fraction": 0.9,
    }
    assert differing(workbench, changed(workbench, search=free)) == set()


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("search", "seed", 5),
        ("search", "rung_images", 100),
        ("hardware", "batch_size", 8),
        ("hardware", "threads", 2),
    ],
)
def test_a_setting_that_scores_or_prices_depend_on_may_not(workbench, section, key, value):
    other = changed(workbench, **{section: {key: value}})
    assert differing(workbench, other) == {f"{section}.{key}"}


def test_rung_images_above_the_split_are_all_of_it(workbench):
    both = [changed(workbench, search={"rung_images": n}) for n in (5_000, 50_000)]
    assert differing(*both) == set()


def test_one_weight_changed_is_another_network(workbench):
    database = next(iter(workbench.databases.values()))
    weight = next(t for t in database.tensors.values() if t.is_floating_point()).view(-1)
    before, value = problem(workbench), weight[0].clone()
    weight[0] += 1.0
    after = problem(workbench)
    weight[0] = value
    assert {n for n in before if before[n] != after[n]} == {"network or weights"}


@pytest.mark.parametrize("part", ["search", "calibration"])
def test_rows_in_another_order_are_another_split(workbench, part):
    splits = workbench.task.splits
    split = getattr(splits, part)
    other = replace(splits, **{part: split.take(torch.arange(len(split)).flip(0))})
    found = differing(workbench, replace(workbench, task=replace(workbench.task, splits=other)))
    assert found == {f"{part} split"}


def test_another_device_is_another_price(workbench):
    device = workbench.device.model_copy(update={"name": "other"})
    models = replace(workbench.cost_models, latency_model=RooflineLatency(device))
    other = replace(workbench, device=device, cost_models=models, also=(workbench.device,))
    assert differing(workbench, other) == {
        "hardware.device",
        "hardware.also",
        "hardware.latency",
    }


def test_another_loss_is_told(workbench):
    other = replace(workbench.task, loss=loss_named("mse"), loss_name="mse")
    assert differing(workbench, replace(workbench, task=other)) == {"loss"}
