"""Metrics and losses: how outputs on a split become one figure, batch by batch.

A metric measures each batch as soon as it is computed and keeps only small statistics, so that a
split's outputs are never in memory together (a function of the user's own is the exception).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from paredown.search.config.qualities import ACCURACY, F1, MEAN_IOU, MSE, PERPLEXITY, Quality
from paredown.spaces.system.errors import ParedownError

Outputs = tuple[Tensor, ...]
Targets = Tensor | tuple[Tensor, ...]
Loss = Callable[[Outputs, Targets], Tensor]
IGNORED = -100
"""The class number that cross-entropy leaves out; PyTorch's own."""


class MetricError(ParedownError):
    """Outputs and targets do not have the shapes that the metric needs."""


Part = TypeVar("Part")
"""What a metric keeps of one batch."""


@dataclass(frozen=True, kw_only=True)
class Metric(Generic[Part]):
    """How a quality is computed.

    `measure(outputs, targets)` gives the statistics of one batch, `finish(parts)` the value from
    those of all batches; both run where the outputs lie. Where the value is a mean over rows,
    `row_scores(parts)` gives one score for each, (rows,), so that two models can be compared row by
    row; None where it is not.
    """

    quality: Quality
    measure: Callable[[Outputs, Targets], Part]
    finish: Callable[[Sequence[Part]], float]
    row_scores: Callable[[Sequence[Part]], Tensor] | None = None

    @property
    def name(self) -> str:
        """Name of the quality, as goals and figures have it."""
        return self.quality.name

    def tally(self) -> Tally[Part]:
        """A fresh accumulator."""
        return Tally(self)


@dataclass
class Tally(Generic[Part]):
    """Accumulates one metric over the batches of a split."""

    metric: Metric[Part]
    parts: list[Part] = field(default_factory=list)

    def add(self, outputs: Outputs, targets: Targets) -> None:
        """Counts one batch; outputs in the model's order."""
        self.parts.append(self.metric.measure(outputs, targets))

    def value(self) -> float:
        """The metric over everything added; NaN if nothing was."""
        return self.metric.finish(self.parts) if self.parts else float("nan")

    def per_sample(self) -> Tensor | None:
        """One score per sample, in order, (rows,); None if the metric is no mean over samples."""
        row_scores = self.metric.row_scores
        return row_scores(self.parts).cpu() if row_scores and self.parts else None


def metric_named(name: str) -> Metric[Tensor]:
    """The built-in metric of that name: accuracy, mean_iou, mse or perplexity."""
    return _BUILT_IN[name]


def entity_f1(tags: Sequence[str]) -> Metric[Tensor]:
    """F1 of the entities that tags such as B-PER and I-PER spell, as seqeval counts them.

    Logits (batch, time, tags), targets (batch, time); -100 is ignored.

    Args:
        tags: Name of each class.
    """
    return Metric(quality=F1, measure=_tag_numbers, finish=_EntityF1(tuple(tags)))


def loss_named(name: str) -> Loss:
    """The built-in loss of that name; each gives the mean over the batch as a scalar tensor."""
    return LOSSES[name]


def _single(targets: Targets) -> Tensor:
    if isinstance(targets, Tensor):
        return targets
    if len(targets) == 1:
        return targets[0]
    raise MetricError(
        f"a built-in metric or loss must have one target, got {len(targets)}; "
        "name your own function in task.metric and task.loss"
    )


def _cross_entropy(outputs: Outputs, targets: Targets) -> Tensor:
    """Mean cross-entropy in nats; logits (batch, classes, ...), targets (batch, ...)."""
    logits, target = outputs[0], _single(targets)
    if target.is_floating_point() and target.shape == logits.shape:
        return F.cross_entropy(logits, target.to(logits.dtype))  # a probability for each class
    return F.cross_entropy(logits, class_numbers(logits, target))


def labelled_cross_entropy(outputs: Outputs, targets: Targets) -> Tensor:
    """As cross-entropy, without what is outside the classes: 255 and such mean "ignore" to mean_iou."""
    target = class_numbers(outputs[0], _single(targets), are_checked=False)
    outside = (target < 0) | (target >= outputs[0].shape[1])
    return F.cross_entropy(outputs[0], target.masked_fill(outside, IGNORED))


def _sequence_cross_entropy(outputs: Outputs, targets: Targets) -> Tensor:
    """Mean cross-entropy in nats; logits (batch, time, classes), targets (batch, time)."""
    return F.cross_entropy(outputs[0].flatten(0, -2), _tokens(outputs, targets))


def _mean_squared_error(outputs: Outputs, targets: Targets) -> Tensor:
    return F.mse_loss(outputs[0], _shaped_like(outputs[0], _single(targets)))


LOSSES: Mapping[str, Loss] = {
    "cross_entropy": _cross_entropy,
    "sequence_cross_entropy": _sequence_cross_entropy,
    "mse": _mean_squared_error,
}


def class_numbers(logits: Tensor, target: Tensor, *, are_checked: bool = True) -> Tensor:
    """Class numbers, int64, (batch, ...), from targets of any whole type and with axes of size one.

    Args:
        logits: (batch, classes, ...).
        are_checked: Whether numbers outside the classes, but for -100, are refused.

    Raises:
        MetricError: The targets are not one class number for each position.
    """
    if logits.dim() < 2:
        raise MetricError(
            "task.data: class targets need logits (batch, classes, ...), got outputs of shape "
            f"{tuple(logits.shape)}; for one figure for each row, take a metric and a loss of your own"
        )
    shape = (logits.shape[0], *logits.shape[2:])
    got = f"got {str(target.dtype).removeprefix('torch.')} of shape {tuple(target.shape)}"
    if [d for d in target.shape if d != 1] != [d for d in shape if d != 1]:
        raise MetricError(
            f"task.data: class targets must be class numbers of shape {shape}, {got}; from one-hot "
            "rows they come by targets.argmax(1)"
        )
    if target.is_floating_point() or target.is_complex():
        raise MetricError(
            f"task.data: class targets must be whole numbers, {got}; give targets.long()"
        )
    numbers = target.reshape(shape).long()
    classes = logits.shape[1]
    outside = numbers[((numbers < 0) | (numbers >= classes)) & (numbers != IGNORED)]
    if are_checked and len(outside):
        remedy = "number the classes from 0"
        if classes == 1:
            remedy = "for one logit, take a metric and a loss of your own"
        raise MetricError(
            f"task.data: class numbers must be in 0..{classes - 1}, as many as the model has logits, got "
            f"{int(outside[0])}; {remedy}"
        )
    return numbers


def _tokens(outputs: Outputs, targets: Targets) -> Tensor:
    """Token numbers, flat; logits (batch, time, classes)."""
    return class_numbers(outputs[0].flatten(0, -2), _single(targets).flatten())


def _shaped_like(output: Tensor, target: Tensor) -> Tensor:
    # (n,) against (n, 1) would broadcast to (n, n) without a word.
    if output.numel() != target.numel():
        raise MetricError(
            f"outputs and targets must have one size, got {tuple(output.shape)} and "
            f"{tuple(target.shape)}; reshape the targets in the data factory"
        )
    return target.reshape(output.shape).to(output.dtype)


def _correct(outputs: Outputs, targets: Targets) -> Tensor:
    """Share of right classes per sample, (rows,); logits (batch, classes, ...)."""
    target = class_numbers(outputs[0], _single(targets))
    predicted = outputs[0].argmax(1)
    # A NaN's position is what argmax returns, so a broken model would be right by luck.
    right = (predicted == target) & ~outputs[0].isnan().any(1)
    return right.float().flatten(1).mean(1) if right.dim() > 1 else right.float()


def _squared_error(outputs: Outputs, targets: Targets) -> Tensor:
    error = outputs[0] - _shaped_like(outputs[0], _single(targets))
    return error.square().flatten(1).mean(1) if error.dim() > 1 else error.square()


def _overlaps(outputs: Outputs, targets: Targets) -> Tensor:
    """Intersection and union per class, (2, classes); logits (batch, classes, ...)."""
    target = class_numbers(outputs[0], _single(targets), are_checked=False)
    predicted, classes = outputs[0].argmax(1), outputs[0].shape[1]
    is_labelled = (target >= 0) & (target < classes)  # 255 and -100 mean "ignore"
    predicted, target = predicted[is_labelled], target[is_labelled]
    hits = torch.bincount(target[predicted == target], minlength=classes)
    sizes = torch.bincount(target, minlength=classes) + torch.bincount(
        predicted, minlength=classes
    )
    return torch.stack([hits, sizes - hits]).double()


def _mean_iou(parts: Sequence[Tensor]) -> float:
    """Mean over the classes that occur of intersection over union."""
    intersection, union = torch.stack(list(parts)).sum(0)
    occurs = union > 0
    return float((intersection[occurs] / union[occurs]).mean())


def _token_losses(outputs: Outputs, targets: Targets) -> Tensor:
    """Summed negative log-likelihood in nats and number of tokens, (2,)."""
    target = _tokens(outputs, targets)
    logits = outputs[0].flatten(0, -2).double()
    total = F.cross_entropy(logits, target, reduction="sum")
    return torch.stack([total, (target != IGNORED).sum().double()])


def _perplexity(parts: Sequence[Tensor]) -> float:
    total, count = torch.stack(list(parts)).sum(0)
    return float(torch.exp(total / count))


def _tag_numbers(outputs: Outputs, targets: Targets) -> Tensor:
    """Right and predicted tags, (2, batch, time)."""
    right = class_numbers(outputs[0].transpose(1, 2), _single(targets))
    return torch.stack([right, outputs[0].argmax(-1)])


@dataclass(frozen=True)
class _EntityF1:
    tags: tuple[str, ...]

    def __call__(self, parts: Sequence[Tensor]) -> float:
        from seqeval.metrics import f1_score  # of the extra `hf`

        rows = [row for part in parts for row in part.unbind(1)]
        right, predicted = (
            [[self.tags[i] for i in row[which][row[0] != IGNORED].tolist()] for row in rows]
            for which in (0, 1)
        )
        return float(f1_score(right, predicted, zero_division=0))


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(parts))


def _mean(parts: Sequence[Tensor]) -> float:
    return float(_joined(parts).double().mean())


_BUILT_IN: Mapping[str, Metric[Tensor]] = {
    metric.name: metric
    for metric in (
        Metric(quality=ACCURACY, measure=_correct, finish=_mean, row_scores=_joined),
        Metric(quality=MSE, measure=_squared_error, finish=_mean, row_scores=_joined),
        Metric(quality=MEAN_IOU, measure=_overlaps, finish=_mean_iou),
        Metric(quality=PERPLEXITY, measure=_token_losses, finish=_perplexity),
    )
}
