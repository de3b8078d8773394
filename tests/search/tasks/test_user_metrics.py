"""Metrics and losses of the user's own: what they are given, and what they must return."""

import math

import pytest
import torch

from paredown.search.config.qualities import Quality
from paredown.search.tasks.metrics import (
    MetricError,
)
from paredown.search.tasks.output_form import OutputForm, Rows
from paredown.search.tasks.user_code import UserCodeError
from paredown.search.tasks.user_metrics import UserLoss, whole_split_metric


def in_batches(metric, outputs, targets, size):
    tally = metric.tally()
    for start in range(0, len(targets), size):
        tally.add((outputs[start : start + size],), targets[start : start + size])
    return tally


def test_a_metric_of_the_users_own_sees_the_whole_split():
    def spread(outputs, targets):
        return (outputs - targets).max() - (outputs - targets).min()

    metric = whole_split_metric(Quality(name="spread", direction="minimize"), spread)
    outputs, targets = torch.arange(10.0), torch.zeros(10)
    assert in_batches(metric, outputs, targets, 3).value() == 9.0
    assert in_batches(metric, outputs, targets, 3).per_sample() is None


def test_a_metric_of_the_users_own_gets_all_outputs_and_targets_of_a_model_with_two():
    metric = whole_split_metric(
        Quality(name="both", direction="maximize"),
        lambda o, t: (o[0] == t[0]).float().sum() + len(o),
        OutputForm((Rows(0), Rows(1))),
    )
    tally = metric.tally()
    for _ in range(2):
        tally.add((torch.ones(3), torch.zeros(3)), (torch.ones(3), torch.zeros(3)))
    assert tally.value() == 8.0


def test_a_metric_that_returns_no_number_is_named():
    metric = whole_split_metric(
        Quality(name="odd", direction="maximize"), lambda outputs, targets: "x"
    )
    with pytest.raises(MetricError, match=r"task\.metric: odd must return one number"):
        in_batches(metric, torch.ones(2), torch.ones(2), 2).value()


@pytest.mark.parametrize("value", [math.nan, math.inf, -2e30])
def test_a_figure_that_is_no_usable_number_is_refused(value):
    metric = whole_split_metric(
        Quality(name="odd", direction="maximize"), lambda outputs, targets: value
    )
    with pytest.raises(MetricError, match=r"task\.metric: odd must return a number of size"):
        in_batches(metric, torch.ones(2), torch.ones(2), 2).value()


def test_a_metric_that_raises_is_named_with_its_rows():
    metric = whole_split_metric(
        Quality(name="odd", direction="maximize"), lambda outputs, targets: 1 / 0
    )
    with pytest.raises(UserCodeError, match=r"odd, given 4 rows, raised ZeroDivisionError"):
        in_batches(metric, torch.ones(4), torch.ones(4), 3).value()


def test_a_loss_gets_what_the_model_returns_and_keeps_its_gradient():
    form = OutputForm({"logits": Rows(1), "name": "constant"})
    loss = UserLoss(
        name="mine:loss", function=lambda o, t: (o["logits"] * t).mean(0, keepdim=True), form=form
    )
    logits = torch.ones(3, requires_grad=True)
    value = loss((torch.zeros(3), logits), torch.tensor([3.0, 6.0, 0.0]))
    assert value.shape == ()
    assert value.item() == 3.0
    value.backward()
    assert logits.grad.tolist() == [1.0, 2.0, 0.0]


@pytest.mark.parametrize("value", [1.0, torch.ones(3), None])
def test_a_loss_that_is_no_tensor_of_one_value_is_refused(value):
    loss = UserLoss(name="mine:loss", function=lambda o, t: value, form=OutputForm())
    with pytest.raises(MetricError, match=r"task\.loss: mine:loss must .* for 3 rows"):
        loss((torch.ones(3),), torch.ones(3))
