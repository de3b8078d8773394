"""A task: trained networks, the data to compress and score them on, and the metric.

Built-in tasks and the user's own come out as the same record, so the search knows only this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from paredown.search.config.qualities import ACCURACY, MEAN_IOU, QUALITIES, Quality, quality_of
from paredown.search.config.reading import filled
from paredown.search.config.schema import (
    Cifar10Task,
    Config,
    CustomTask,
    DigitsTask,
    HuggingFaceTask,
)
from paredown.search.config.schema_hardware import HardwareSection
from paredown.search.config.schema_space import Architecture
from paredown.search.tasks.cifar10 import cifar10_splits, resnet
from paredown.search.tasks.custom_data import read_splits
from paredown.search.tasks.digits import digits_splits, trained_digits
from paredown.search.tasks.metrics import (
    LOSSES,
    Loss,
    Metric,
    labelled_cross_entropy,
    loss_named,
    metric_named,
)
from paredown.search.tasks.output_form import OutputError, OutputForm, choose, read_form
from paredown.search.tasks.own_module import check_values, fit_module, load_weights
from paredown.search.tasks.pretrained import load_pretrained
from paredown.search.tasks.pretrained_rows import (
    LOSS_OF_KIND,
    pretrained_metric,
    pretrained_splits,
)
from paredown.search.tasks.splits import Inputs, Splits, of_length
from paredown.search.tasks.user_code import call_factory, load_function
from paredown.search.tasks.user_metrics import UserLoss, whole_split_metric
from paredown.spaces.system.errors import ParedownError


class TaskError(ParedownError):
    """The model or weights that a task names cannot be used."""


_CLASS_LOSSES = ("cross_entropy", "sequence_cross_entropy")


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is to be compressed, and how good it is.

    `modules` maps the name of each architecture to its trained network in eval mode; the first is
    the uncompressed reference, and its name is "" where there is only one. `example` holds the
    prepared inputs of one batch of `hardware.priced_batch` rows. `loss(outputs, targets)` is a mean
    over the batch; `loss_name` is "cross_entropy", "sequence_cross_entropy", "mse" or an import
    path. `form` is what the modules return. `notices` says what was converted, one sentence each.
    `files` are the model's own by name, such as its tokenizer: an exported folder keeps them.
    """

    name: str
    modules: Mapping[str, nn.Module]
    example: Inputs
    splits: Splits
    metric: Metric
    loss: Loss
    loss_name: str
    form: OutputForm = field(default_factory=OutputForm)
    notices: tuple[str, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def class_dim(self) -> int | None:
        """The dimension of the first output that holds logits of classes; None where none does."""
        return {"cross_entropy": 1, "sequence_cross_entropy": -1}.get(self.loss_name)

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
    if isinstance(section, HuggingFaceTask):
        return _load_pretrained(section, config)
    if isinstance(section, DigitsTask):
        splits = digits_splits(section.seed, section.calibration_images)
    else:
        splits = cifar10_splits(section)
    return Task(
        name=section.name,
        modules={name: _built_in(section, own) for name, own in _architectures(config).items()},
        example=_example(splits, config.hardware),
        splits=splits,
        metric=metric_named(ACCURACY.name),
        loss=loss_named(ACCURACY.usual_loss),
        loss_name=ACCURACY.usual_loss,
    )


def _architectures(config: Config) -> Mapping[str, Architecture]:
    return config.space.architectures or {"": Architecture()}


def _load_custom(section: CustomTask, config: Config) -> Task:
    data = call_factory(
        "task.data", section.data, section.code_folder, filled(section.data_kwargs)
    )
    source = f"task.data: {section.data}"
    splits = read_splits(data, source, section.calibration_images, section.seed)
    notices = _notices(splits, section)
    modules: dict[str, nn.Module] = {}
    for name, own in _architectures(config).items():
        modules[name], changed = _own_module(section, own, name)
        notices += changed
    example = _example(splits, config.hardware)
    # Rows that differ, which a repeated one of the example would not.
    rows = splits.calibration.rows(0, 2)[0]
    for module in modules.values():
        notices += choose(module, section.outputs, rows, f"task.model: {section.model}")
    form = _common_form(modules, rows, section)
    loss_name = section.loss or QUALITIES[section.metric].usual_loss
    return Task(
        name=section.name,
        modules=modules,
        example=example,
        splits=splits,
        metric=_metric(section, config, form),
        loss=_loss(section, loss_name, form),
        loss_name=loss_name,
        form=form,
        notices=tuple(dict.fromkeys(notices)),
    )


def _load_pretrained(section: HuggingFaceTask, config: Config) -> Task:
    found = load_pretrained(section)
    splits = pretrained_splits(section, found)
    named = f"task.model: {section.model}"
    loss_name = LOSS_OF_KIND[section.kind]
    return Task(
        name=section.name,
        modules={"": found.module},
        example=_example(splits, config.hardware),
        splits=splits,
        metric=pretrained_metric(section, found),
        loss=loss_named(loss_name),
        loss_name=loss_name,
        form=read_form(found.module, splits.calibration.rows(0, 2)[0], named),
        notices=found.notices,
        files=found.files,
    )


def _metric(section: CustomTask, config: Config, form: OutputForm) -> Metric:
    if ":" not in section.metric:
        return metric_named(section.metric)
    directions = {goal.metric: goal.direction for goal in config.goals}
    function = load_function("task.metric", section.metric, section.code_folder)
    name = section.metric_name
    quality = Quality(name=name, direction=directions.get(name, "maximize"))
    return whole_split_metric(quality, function, form)


def _loss(section: CustomTask, loss_name: str, form: OutputForm) -> Loss:
    if loss_name in LOSSES:
        is_labelled = section.metric == MEAN_IOU.name and loss_name == "cross_entropy"
        return labelled_cross_entropy if is_labelled else loss_named(loss_name)
    return UserLoss(
        name=loss_name,
        function=load_function("task.loss", loss_name, section.code_folder),
        form=form,
    )


def _notices(splits: Splits, section: CustomTask) -> list[str]:
    """What of the data is converted where it is used."""
    found = []
    split = splits.search
    floats = {
        str(x.dtype).removeprefix("torch.")
        for x in split.as_prepared(0, 1)
        if x.is_floating_point()
    }
    if floats - {"float32"}:
        found.append(
            f"task.data: {section.data}: inputs of {' and '.join(sorted(floats))} are taken as float32"
        )
    losses = (quality_of(section.metric).usual_loss, section.loss)
    target = split.targets
    if isinstance(target, torch.Tensor) and not set(losses).isdisjoint(_CLASS_LOSSES):
        if target.dtype != torch.int64 and not target.is_floating_point():
            kind = str(target.dtype).removeprefix("torch.")
            found.append(f"task.data: {section.data}: class targets of {kind} are taken as int64")
        if target.dim() == 2 and target.shape[1] == 1:
            found.append(
                f"task.data: {section.data}: class targets of shape (rows, 1) are taken as (rows,)"
            )
    return found


def _example(splits: Splits, hardware: HardwareSection) -> Inputs:
    split, batch_size = splits.calibration, hardware.priced_batch
    # A split smaller than the batch is repeated: only the shapes matter.
    index = torch.arange(batch_size) % len(split)
    example = split.take(index).rows(0, batch_size)[0]
    time = hardware.axes.time
    return example if time is None else of_length(example, time.price_at)


def _built_in(section: DigitsTask | Cifar10Task, own: Architecture) -> nn.Module:
    if isinstance(section, DigitsTask):
        return trained_digits(section.seed, **_digits_kwargs(own))
    module: nn.Module = resnet(own.model or section.model)
    load_weights(module, own.weights or section.weights)
    return module.eval()


def _own_module(section: CustomTask, own: Architecture, name: str) -> tuple[nn.Module, list[str]]:
    named = f"task.model{f' (architecture {name!r})' if name else ''}: {section.model}"
    arguments = filled({**section.kwargs, **own.kwargs})
    made = call_factory("task.model", section.model, section.code_folder, arguments)
    module, notices = fit_module(made, named)
    weights = own.weights or section.weights
    if weights is not None:
        load_weights(module, weights)
    check_values(module, named)
    return module, notices


def _common_form(
    modules: Mapping[str, nn.Module], rows: Inputs, section: CustomTask
) -> OutputForm:
    """What all of the networks return."""
    named = f"task.model: {section.model}"
    forms = {name: read_form(module, rows, named) for name, module in modules.items()}
    first = next(iter(forms.values()))
    for name, form in forms.items():
        if not form.agrees_with(first):
            raise OutputError(
                f"{named}: all architectures must return the same kinds of outputs, got "
                f"{form.template} from {name!r} and {first.template} from {next(iter(forms))!r}"
            )
    return first


def _digits_kwargs(own: Architecture) -> dict[str, int]:
    inner = own.kwargs.get("inner", 48)
    # A reference larger than the task's own would make every ratio look better than it is.
    if own.kwargs.keys() - {"inner"} or inner not in (16, 32, 48):
        raise TaskError(
            f"an architecture of task digits must be {{inner: 16, 32 or 48}}, got {own.kwargs}; "
            "set space.architectures"
        )
    return {"inner": inner}
