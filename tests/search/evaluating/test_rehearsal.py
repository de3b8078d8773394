"""The user's own model scored as it came, before anything takes long."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from paredown.search.config.reading import load_config
from paredown.search.evaluating.rehearsal import rehearse
from paredown.search.evaluating.scoring import NotFiniteError
from paredown.search.tasks.metrics import MetricError
from paredown.search.tasks.output_form import OutputForm
from paredown.search.tasks.user_metrics import UserLoss

CONFIG = """\
task: {name: digits}
goals: [{metric: accuracy}, {metric: onnx_bytes}]
"""


@pytest.fixture
def config(write_config):
    return load_config(write_config(CONFIG), ["search.rung_images=70"])


def test_the_rows_of_the_first_rung_are_scored_by_the_module_itself(config, workbench):
    task = workbench.task
    inputs, targets = task.splits.search.rows(0, 70)
    with torch.no_grad():
        outputs = task.module(*inputs)
    found = rehearse(config, task)
    assert found.images == 70
    assert found.metric == pytest.approx(float((outputs.argmax(1) == targets).float().mean()))
    assert found.loss == pytest.approx(float(cross_entropy(outputs, targets)), rel=1e-5)


def loss_of(function):
    return UserLoss(name="mine:loss", function=function, form=OutputForm())


def test_a_loss_of_the_users_own_must_have_a_gradient(config, workbench):
    with_gradient = replace(workbench.task, loss=loss_of(cross_entropy), loss_name="mine:loss")
    assert rehearse(config, with_gradient).loss == pytest.approx(
        rehearse(config, workbench.task).loss
    )
    cut = loss_of(lambda o, t: cross_entropy(o.detach(), t))
    with pytest.raises(MetricError, match=r"task\.loss: mine:loss must have a gradient"):
        rehearse(config, replace(workbench.task, loss=cut, loss_name="mine:loss"))


def test_a_loss_that_is_no_number_is_found_before_the_search(config, workbench):
    broken = loss_of(lambda o, t: cross_entropy(o, t) * float("nan"))
    with pytest.raises(NotFiniteError):
        rehearse(config, replace(workbench.task, loss=broken, loss_name="mine:loss"))
