"""Metrics and losses of the user's own: called with what the model returns, and their results checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import SupportsFloat

import torch
from torch import Tensor

from paredown.search.config.qualities import Quality
from paredown.search.tasks.metrics import Metric, MetricError, Outputs, Targets
from paredown.search.tasks.output_form import OutputForm
from paredown.search.tasks.user_code import UserFunction, called

LARGEST = 1e30
"""Size up to which a figure of merit is one: beyond, squares and volumes of it overflow."""


def whole_split_metric(
    quality: Quality,
    function: UserFunction,
    form: OutputForm = OutputForm(),  # noqa: B008 (frozen)
) -> Metric[tuple[Outputs, Targets]]:
    """A metric from the user's `function(outputs, targets) -> float` over a whole split.

    It gets what the model returns, as `form` says, with the rows of all batches in its tensors.
    """
    finish = _WholeSplit(name=quality.name, function=function, form=form)
    return Metric(quality=quality, measure=_keep, finish=finish)


@dataclass(frozen=True, kw_only=True)
class UserLoss:
    """The user's `function(outputs, targets)`, which gets what the model returns."""

    name: str
    function: UserFunction
    form: OutputForm

    def __call__(self, outputs: Outputs, targets: Targets) -> Tensor:
        """The mean over the batch.

        Raises:
            UserCodeError: The function raises.
            MetricError: It returns no tensor of one value.
        """
        given = f"{len(outputs[0])} rows"
        with called(f"task.loss: {self.name}, given {given},"):
            value = self.function(self.form.rebuilt(outputs), targets)
        if isinstance(value, Tensor) and value.numel() == 1:
            return value.reshape(())
        raise MetricError(
            f"task.loss: {self.name} must return a tensor of one value, the mean over the batch, got "
            f"{_kind(value)} for {given}; compute it with tensors, so that it has a gradient"
        )


def _keep(outputs: Outputs, targets: Targets) -> tuple[Outputs, Targets]:
    """On the CPU: a whole split may be more than a GPU holds, and the user's code may use NumPy."""
    kept = targets.cpu() if isinstance(targets, Tensor) else tuple(x.cpu() for x in targets)
    return tuple(x.cpu() for x in outputs), kept


@dataclass(frozen=True, kw_only=True)
class _WholeSplit:
    name: str
    function: UserFunction
    form: OutputForm

    def __call__(self, parts: Sequence[tuple[Outputs, Targets]]) -> float:
        outputs = tuple(torch.cat(same) for same in zip(*(o for o, _ in parts), strict=True))
        rows = [t if isinstance(t, tuple) else (t,) for _, t in parts]
        targets = tuple(torch.cat(same) for same in zip(*rows, strict=True))
        given = f"{len(outputs[0])} rows"
        with called(f"task.metric: {self.name}, given {given},"):
            value = self.function(self.form.rebuilt(outputs), _alone(targets))
        try:
            found = float(value) if isinstance(value, SupportsFloat) else None
        except (TypeError, ValueError, RuntimeError) as error:
            raise self._no_number(value, given) from error
        if found is None:
            raise self._no_number(value, given)
        if not abs(found) <= LARGEST:
            raise MetricError(
                f"task.metric: {self.name} must return a number of size at most {LARGEST:g}, got "
                f"{found:g} for {given}; correct the function, or scale what it returns"
            )
        return found

    def _no_number(self, value: object, given: str) -> MetricError:
        return MetricError(
            f"task.metric: {self.name} must return one number, got {_kind(value)} for {given}; "
            "return a float"
        )


def _kind(value: object) -> str:
    shape = f" of shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""
    return type(value).__name__ + shape


def _alone(tensors: tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
    return tensors[0] if len(tensors) == 1 else tensors
