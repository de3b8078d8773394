"""Metrics against hand counts, torch and scikit-learn; batches never change a value."""

import math

import pytest
import torch
from sklearn.metrics import jaccard_score
from torch.nn import functional as F

from paredown.search.config.qualities import QUALITIES
from paredown.search.tasks.metrics import (
    MetricError,
    loss_named,
    metric_named,
)


def in_batches(metric, outputs, targets, size):
    tally = metric.tally()
    for start in range(0, len(targets), size):
        tally.add((outputs[start : start + size],), targets[start : start + size])
    return tally


def test_accuracy_counts_right_classes_and_keeps_one_score_a_sample():
    logits = torch.tensor([[1.0, 2.0], [3.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    tally = in_batches(metric_named("accuracy"), logits, torch.tensor([1, 0, 0, 1]), 3)
    assert tally.value() == 0.5
    assert tally.per_sample().tolist() == [1, 1, 0, 0]


def test_a_model_that_gives_nan_is_never_right():
    logits = torch.full((3, 2), math.nan)
    tally = in_batches(metric_named("accuracy"), logits, torch.tensor([0, 0, 0]), 2)
    assert tally.value() == 0.0


def test_one_hot_targets_are_refused():
    with pytest.raises(MetricError, match="one-hot"):
        in_batches(metric_named("accuracy"), torch.rand(4, 3), torch.rand(4, 3), 4)


def test_mse_equals_torch_and_does_not_broadcast():
    torch.manual_seed(0)
    outputs, targets = torch.randn(10, 1), torch.randn(10)
    tally = in_batches(metric_named("mse"), outputs, targets, 4)
    assert tally.value() == pytest.approx(F.mse_loss(outputs[:, 0], targets).item(), rel=1e-6)
    assert tally.per_sample().shape == (10,)
    with pytest.raises(MetricError, match="one size"):
        in_batches(metric_named("mse"), torch.randn(10, 2), targets, 10)


def test_mean_iou_equals_scikit_learn_on_the_whole_split():
    torch.manual_seed(0)
    logits, targets = torch.randn(6, 4, 5, 5), torch.randint(0, 4, (6, 5, 5))
    tally = in_batches(metric_named("mean_iou"), logits, targets, 4)
    expected = jaccard_score(targets.flatten(), logits.argmax(1).flatten(), average="macro")
    assert tally.value() == pytest.approx(expected, abs=1e-12)
    assert tally.per_sample() is None


def test_mean_iou_leaves_unlabelled_pixels_and_absent_classes_out():
    logits = F.one_hot(torch.tensor([[[0, 1], [1, 0]]]), 5).permute(0, 3, 1, 2).float()
    targets = torch.tensor([[[0, 1], [255, 0]]])
    assert in_batches(metric_named("mean_iou"), logits, targets, 1).value() == 1.0


def test_perplexity_of_a_uniform_guess_is_the_number_of_classes():
    tally = in_batches(
        metric_named("perplexity"), torch.zeros(5, 7, 11), torch.ones(5, 7).long(), 2
    )
    assert tally.value() == pytest.approx(11)


def test_perplexity_weights_tokens_not_batches():
    torch.manual_seed(0)
    logits, targets = torch.randn(5, 7, 11), torch.randint(0, 11, (5, 7))
    targets[0, :5] = -100
    expected = F.cross_entropy(logits.flatten(0, 1), targets.flatten()).exp().item()
    for size in (1, 3, 5):
        value = in_batches(metric_named("perplexity"), logits, targets, size).value()
        assert value == pytest.approx(expected, rel=1e-5)


def test_nothing_added_is_nan():
    assert math.isnan(metric_named("accuracy").tally().value())


@pytest.mark.parametrize("metric", ["accuracy", "mean_iou", "mse", "perplexity"])
def test_every_metric_has_a_usual_loss_that_gives_a_scalar_with_a_gradient(metric):
    outputs = torch.randn(4, 3, 5, requires_grad=True)
    targets = torch.randn(4, 3, 5) if metric == "mse" else torch.zeros(4, 5).long()
    if metric == "perplexity":
        targets = torch.zeros(4, 3).long()
    loss = loss_named(QUALITIES[metric].usual_loss)((outputs,), targets)
    loss.backward()
    assert loss.shape == ()
    assert outputs.grad.abs().sum() > 0
