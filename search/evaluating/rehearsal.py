"""The user's model, metric and loss tried on real rows before anything takes long.

What fails here would fail minutes later, after statistics and latencies.
"""

from __future__ import annotations

import torch

from paredown.search.config.schema import Config, CustomTask, HuggingFaceTask
from paredown.search.evaluating.computing_device import computing_device
from paredown.search.evaluating.scoring import score_outputs
from paredown.search.study.evaluation import Score
from paredown.search.tasks.metrics import MetricError, Outputs
from paredown.search.tasks.output_form import forward
from paredown.search.tasks.splits import Inputs
from paredown.search.tasks.task import Task
from paredown.search.tasks.user_metrics import UserLoss

_ROWS = 8


def rehearse(config: Config, task: Task) -> Score:
    """Score of the reference module itself, as it came, on the rows of the first rung.

    Raises:
        UserCodeError, DataError, MetricError, NotFiniteError: Model, data, metric or loss cannot be used.
    """
    section = config.task
    named = "task"
    if isinstance(section, CustomTask | HuggingFaceTask):
        named = f"task.model: {section.model}"
    split = task.splits.search

    def _run(inputs: Inputs) -> Outputs:
        return task.form.tensors(forward(task.module, inputs, named))

    if isinstance(task.loss, UserLoss):
        _check_gradient(task, named, computing_device(config.search))
    rows = min(config.search.rung_images, len(split))
    return score_outputs(_run, split, task.metric, task.loss, rows)


def _check_gradient(task: Task, named: str, device: torch.device) -> None:
    """Refuses a loss that has no gradient by the outputs: its curvature weighs the layers.

    It is given what it will be given, tensors on `device`.
    """
    split = task.splits.calibration
    rows = min(_ROWS, len(split))
    inputs, _ = split.rows(0, rows)
    _, targets = split.on(device).rows(0, rows)
    outputs = [x.to(device) for x in task.form.tensors(forward(task.module, inputs, named))]
    leaves = tuple(x.float().requires_grad_() if x.is_floating_point() else x for x in outputs)
    value = task.loss(leaves, targets)
    if not value.requires_grad:
        raise MetricError(
            f"task.loss: {task.loss_name} must have a gradient by the outputs, got a value without; "
            "compute it with torch from the outputs themselves, without .item(), .detach() or NumPy"
        )
