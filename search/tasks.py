"""A task: trained networks, the data to compress and score them on, and the metric.

Built-in tasks and the user's own come out as the same record, so the search knows only this one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from paredown.search.cifar10 import cifar10_splits
from paredown.search.config import filled
from paredown.search.custom_data import read_splits
from paredown.search.digits import digits_splits, trained_digits
from paredown.search.metrics import (
    LOSSES,
    Loss,
    Metric,
    loss_named,
    metric_named,
    usual_loss,
    whole_split_metric,
)
from paredown.search.resnet import resnet
from paredown.search.schema import Cifar10Task, Config, CustomTask, DigitsTask
from paredown.search.schema_space import Architecture
from paredown.search.splits import Inputs, Splits
from paredown.search.user_code import call_factory, load_function


class TaskError(ValueError):
    """The model or weights that a task names cannot be used."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is to be compressed, and how good it is.

    `modules` maps the name of each architecture to its trained network in eval mode; the first is
    the uncompressed reference, and its name is "" where there is only one. `example` holds the
    prepared inputs of one batch of `hardware.batch_size` rows. `loss(outputs, targets)` is a mean
    over the batch; `loss_name` is "cross_entropy", "sequence_cross_entropy", "mse" or an import
    path.
    """

    name: str
    modules: Mapping[str, nn.Module]
    example: Inputs
    splits: Splits
    metric: Metric
    loss: Loss
    loss_name: str

    @property
    def module(self) -> nn.Module:
        """The uncompressed reference."""
        return next(iter(self.modules.values()))


def load_task(config: Config) -> Task:
    """The task of the config, with its networks trained and its search data in memory.

    Raises:
        TaskError, DataError, UserCodeError: What the config names cannot be used.
    """
    section = config.task
    if isinstance(section, CustomTask):
        return _load_custom(section, config)
    if isinstance(section, DigitsTask):
        splits = digits_splits(section.seed, section.calibration_images)
    else:
        splits = cifar10_splits(section)
    return _assemble(config, splits, metric_named("accuracy"), loss_named("cross_entropy"))


def load_modules(config: Config) -> dict[str, nn.Module]:
    """The trained networks of the config's task alone, in eval mode; no data are read."""
    architectures = config.space.architectures or {"": Architecture()}
    return {name: _module(config.task, a, name) for name, a in architectures.items()}


def _assemble(
    config: Config,
    splits: Splits,
    metric: Metric,
    loss: Loss,
    loss_name: str = "cross_entropy",
) -> Task:
    return Task(
        name=config.task.name,
        modules=load_modules(config),
        example=_example(splits, config.hardware.batch_size),
        splits=splits,
        metric=metric,
        loss=loss,
        loss_name=loss_name,
    )


def _load_custom(section: CustomTask, config: Config) -> Task:
    data = call_factory(
        "task.data", section.data, section.code_folder, filled(section.data_kwargs)
    )
    splits = read_splits(data, section.data, section.calibration_images, section.seed)
    if ":" in section.metric:
        goals = {goal.metric: goal.direction for goal in config.goals}
        metric = whole_split_metric(
            section.metric_name,
            goals.get(section.metric_name, "maximize"),
            load_function("task.metric", section.metric, section.code_folder),
        )
    else:
        metric = metric_named(section.metric)
    loss_name = section.loss or usual_loss(section.metric)
    loss = _own_loss(section, loss_name)
    return _assemble(config, splits, metric, loss, loss_name)


def _own_loss(section: CustomTask, loss_name: str) -> Loss:
    if loss_name in LOSSES:
        return loss_named(loss_name)
    function = load_function("task.loss", loss_name, section.code_folder)
    return UserLoss(function)


@dataclass(frozen=True)
class UserLoss:
    """The user's `function(outputs, targets)`; one output is passed as a tensor, not a tuple."""

    function: Callable[[Any, Any], torch.Tensor]

    def __call__(self, outputs: tuple[torch.Tensor, ...], targets: Any) -> torch.Tensor:
        return self.function(outputs[0] if len(outputs) == 1 else outputs, targets)


def _example(splits: Splits, batch_size: int) -> Inputs:
    split = splits.calibration
    # A split smaller than the batch is repeated: only the shapes matter.
    index = torch.arange(batch_size) % len(split)
    return split.take(index).rows(0, batch_size)[0]


def _module(
    section: DigitsTask | Cifar10Task | CustomTask, own: Architecture, name: str
) -> nn.Module:
    if isinstance(section, DigitsTask):
        return trained_digits(section.seed, **_digits_kwargs(own))
    if isinstance(section, Cifar10Task):
        module: nn.Module = resnet(own.model or section.model)
        load_weights(module, own.weights or section.weights)
        return module.eval()
    arguments = filled({**section.kwargs, **own.kwargs})
    made = call_factory("task.model", section.model, section.code_folder, arguments)
    if not isinstance(made, nn.Module):
        where = f" (architecture {name!r})" if name else ""
        raise TaskError(
            f"task.model{where}: {section.model} must return an nn.Module, got "
            f"{type(made).__name__}; return the network itself"
        )
    weights = own.weights or section.weights
    if weights is not None:
        load_weights(made, weights)
    return made.eval()


def _digits_kwargs(own: Architecture) -> dict[str, int]:
    inner = own.kwargs.get("inner", 48)
    # A reference larger than the task's own would make every ratio look better than it is.
    if own.kwargs.keys() - {"inner"} or inner not in (16, 32, 48):
        raise TaskError(
            f"an architecture of task digits must be {{inner: 16, 32 or 48}}, got {own.kwargs}; "
            "set space.architectures"
        )
    return {"inner": inner}


def load_weights(module: nn.Module, path: Path) -> None:
    """Fills `module` from a safetensors file; every tensor must fit.

    Raises:
        TaskError: The file is no safetensors file, or names or shapes differ.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise TaskError(
            f"weights must be a safetensors file, got {path}: {error}; "
            "write it with safetensors.torch.save_model"
        ) from error
    try:
        missing, unexpected = module.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        # A line for the whole and one for each tensor, of which the first says it all.
        lines = [line.strip() for line in str(error).splitlines()]
        more = f" and {len(lines) - 2} more" if len(lines) > 2 else ""
        raise TaskError(
            f"weights {path.name} must fit {type(module).__name__}, got {' '.join(lines[1:2])}"
            f"{more}; check model and kwargs"
        ) from error
    missing = [name for name in missing if not _may_miss(module, name, tensors)]
    if missing or unexpected:
        raise TaskError(
            f"weights {path.name} must name the tensors of {type(module).__name__}, got "
            f"{len(missing)} missing {missing[:4]} and {len(unexpected)} unknown "
            f"{unexpected[:4]}; check model and kwargs"
        )


def _may_miss(module: nn.Module, name: str, tensors: Mapping[str, torch.Tensor]) -> bool:
    # save_model leaves out the second name of a shared tensor, and eval mode reads no counter.
    state = module.state_dict()
    place = state[name].data_ptr()
    is_shared = any(other in tensors and state[other].data_ptr() == place for other in state)
    return name.endswith("num_batches_tracked") or (place != 0 and is_shared)
