"""What a search works on is held against the user's module, and a difference is told before it starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from torch import Tensor, nn

from paredown.compressors.onnx.plan import ExportError
from paredown.search.evaluating.holding import check_files, check_metric
from paredown.search.tasks.metrics import MetricError, metric_named
from paredown.search.tasks.splits import Split, Splits
from paredown.search.tasks.task import LOSSES, Task
from paredown.spaces.capture.capturing import capture
from paredown.spaces.graph.facts import OnnxRename
from paredown.spaces.graph.operators import OPERATORS
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.space import Space
from paredown.spaces.structure.reading import read_model_map

MODELS = """\
import torch
from torch import nn
from torch.nn import functional as F

class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words, self.places = nn.Embedding(12, 8), nn.Embedding(5, 8)
        self.out = nn.Linear(8, 4)
        self.register_buffer("keep", torch.ones(5, 5).tril().bool())
        self.register_buffer("position_ids", torch.arange(5))

    def forward(self, ids):
        x = (self.words(ids) + self.places(self.position_ids))[:, None]
        return self.out(F.scaled_dot_product_attention(x, x, x, attn_mask=self.keep)[:, 0, 2])

class Noisy(Attending):
    def forward(self, ids):
        return F.dropout(super().forward(ids))

class Traced(Attending):
    def forward(self, ids):
        y = super().forward(ids)
        return y.exp() if torch.compiler.is_exporting() else y

def data():
    torch.manual_seed(1)
    ids = torch.randint(0, 12, (40, 5))
    with torch.no_grad():
        rows = ids, Attending()(ids).argmax(1)
    return dict.fromkeys(("train", "search", "test"), rows)
"""


@pytest.fixture
def config_of(tmp_path: Path, own_cache: Path, clean_imports: None) -> Callable[[str], Path]:
    """A config that searches the class of that name."""
    (tmp_path / "mine.py").write_text(MODELS)

    def write(name: str) -> Path:
        path = tmp_path / f"{name}.yaml"
        path.write_text(
            f"name: {name}\n"
            f"task: {{name: custom, code_folder: {tmp_path}, model: 'mine:{name}', data: 'mine:data'}}\n"
            "hardware: {latency: roofline}\n"
            "goals: [{metric: accuracy}, {metric: packed_bytes}]\n"
            f"output: {{folder: {tmp_path / 'runs'}}}\n"
        )
        return path

    return write


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Noisy", "Noisy must give the same for the same rows in eval mode"),
        ("Traced", "the graph read off Traced must give what the module gives"),
    ],
)
@pytest.mark.parametrize("command", ["search", "inspect"])
def test_a_model_that_is_not_what_was_captured_ends_in_one_sentence(
    name: str, told: str, command: str, config_of: Any, paredown: Callable[..., Result]
) -> None:
    result = paredown(command, config_of(name))
    assert result.exit_code == 2
    assert told in result.output
    assert "Traceback" not in result.output


def test_masks_and_indices_of_the_users_model_score_as_the_model(config_of: Any) -> None:
    from paredown.search.config.reading import load_config
    from paredown.search.evaluating.workbench import prepare

    workbench = prepare(load_config(config_of("Attending")))
    # The targets are what the module itself answers.
    base = workbench.evaluate_uncompressed(workbench.rungs[-1])
    assert base.metrics["accuracy"] == 1.0
    check_metric(workbench.task, base.metrics["accuracy"], 1.0, len(workbench.task.splits.search))
    stored = workbench.assemble(workbench.uncompressed()).tensors
    # Its places are numbers that depend on no input: what they lead to is stored in their stead.
    assert {str(t.dtype) for t in stored.values()} == {"torch.float32", "torch.bool"}


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).relu().mean((2, 3))


def _split(count: int = 50) -> Split:
    x = torch.randn(count, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    return Split(inputs=(x,), targets=torch.arange(count) % 3)


def test_a_metric_that_differs_from_the_modules_own_is_refused() -> None:
    split = _split()
    task = Task(
        name="toy",
        modules={"": Scaled().eval()},
        example=[split.inputs[0][:1]],
        splits=Splits(calibration=split, search=split, open_train=_split, open_test=_split),
        metric=metric_named("accuracy"),
        loss=LOSSES["cross_entropy"],
        loss_name="cross_entropy",
    )
    with torch.no_grad():
        own = float((task.module(split.inputs[0]).argmax(1) == split.targets).double().mean())
    check_metric(task, own, own, 50)
    check_metric(task, own + 1 / 50, own, 50)
    with pytest.raises(MetricError, match=r"must score as the module does.* on 50 rows"):
        check_metric(task, own + 0.2, own, 50)


def test_a_file_that_computes_something_else_is_refused_with_the_first_wrong_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:

    torch.manual_seed(0)
    found = capture(Scaled().eval(), _split().inputs[0][:1])
    space = Space(
        architectures=(Architecture(name="", model_map=read_model_map(found), knobs=()),)
    )
    check_files({"": found}, space, _split())

    wrong = replace(OPERATORS["aten.relu.default"], onnx=OnnxRename("Abs"))
    monkeypatch.setitem(OPERATORS, "aten.relu.default", wrong)
    with pytest.raises(ExportError, match=r"first in value 'relu' \(aten.relu.default\)"):
        check_files({"": found}, space, _split())
    with pytest.raises(ExportError, match=r"first in value 'relu'"):
        check_files({"": replace(found, example=())}, space, _split(2))
