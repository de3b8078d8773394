"""docs/errors.md: each sentence that is quoted there, produced as a user would produce it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import ray
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from paredown.search.cli.commands import app
from paredown.search.study import Evaluation, Goal
from paredown.search.study.journal import hold
from paredown.search.study.picking import PickError, pick
from paredown.spaces.candidates import Candidate

PAGE = Path(__file__).resolve().parents[2] / "docs" / "errors.md"
QUOTED = re.findall(r"^### `(.+)`$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
GOALS = "goals: [{metric: accuracy}, {metric: onnx_bytes}]\nhardware: {latency: roofline}\n"
DIGITS = f"task: {{name: digits}}\n{GOALS}"
LOCAL = f"{DIGITS}search: {{engine: local}}\n"
OWN = f"""\
task:
  name: custom
  model: mine:NET
  data: mine:splits
  metric: accuracy
{GOALS}search: {{engine: local}}
"""
MINE = """\
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        return self.linear(x)


class Branching(Net):
    def forward(self, x):
        return self.linear(x) if x.sum() > 0 else self.linear(-x)


class Unusual(Net):
    def forward(self, x):
        return self.linear(torch.special.bessel_j0(x))


def rows(fill=None, classes=3):
    torch.manual_seed(0)
    inputs = torch.randn(64, 4)
    if fill is not None:
        inputs[5, 0] = fill
    return inputs, torch.arange(64) % classes


def splits():
    return {"train": rows(), "search": rows(), "test": rows()}


def splits_with_nan():
    return splits() | {"search": rows(fill=float("nan"))}


def splits_from_one():
    inputs, targets = rows()
    return splits() | {"search": (inputs, targets + 1)}
"""


def _said(folder: Path, config: str, *options: str, command: str = "inspect") -> str:
    """What the command prints about this config, in one line."""
    (folder / "mine.py").write_text(MINE)
    sys.modules.pop("mine", None)  # that of another folder
    (folder / "mine.yaml").write_text(config)
    done = CliRunner().invoke(app, [command, str(folder / "mine.yaml"), *options])
    assert done.exit_code == 2, done.output
    return done.output


def _own(net: str = "Net", data: str = "splits") -> str:
    return OWN.replace("NET", net).replace("mine:splits", f"mine:{data}")


def _unfitting_weights(folder: Path) -> str:
    save_file({"head.weight": torch.zeros(1)}, folder / "trained.safetensors")
    config = _own().replace("  data:", "  weights: trained.safetensors\n  data:")
    return _said(folder, config)


def _occupied(folder: Path) -> str:
    (folder / "runs" / "mine").mkdir(parents=True)
    (folder / "runs" / "mine" / "study.journal").write_text("{}\n")
    return _searched(folder, f"name: mine\n{LOCAL}")


def _in_use(folder: Path) -> str:
    (folder / "runs" / "mine").mkdir(parents=True)
    with hold(folder / "runs" / "mine" / "study.journal"):
        return _searched(folder, f"name: mine\n{LOCAL}")


def _searched(folder: Path, config: str, *options: str) -> str:
    return _said(
        folder, config, "--set", f"output.folder={folder / 'runs'}", *options, command="search"
    )


def _picked(_: Path) -> str:
    goals = (Goal(metric="accuracy", direction="maximize"),)
    metrics = {"accuracy": 0.97, "onnx_bytes": 15_200.0}
    only = Evaluation(number=1, key="9f2c", candidate=Candidate(), metrics=metrics)
    with pytest.raises(PickError) as raised:
        pick([only], "onnx_bytes <= 10kB", goals)
    return str(raised.value)


def _no_cluster(folder: Path) -> str:
    def refuse(**_: object) -> None:
        raise ConnectionError("Failed to connect to GCS at address 10.0.0.1:6379")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray, "init", refuse)
        return _searched(folder, DIGITS, "--set", "search.ray_address=10.0.0.1:6379")


PRODUCED: dict[str, Callable[[Path], str]] = {
    "is not a key of the config": lambda f: _said(
        f, DIGITS + "space: {rules: [{layers: '*', weigth_bits: [4, 8]}]}\n"
    ),
    "must be at least two": lambda f: _said(
        f, "task: {name: digits}\ngoals: [{metric: accuracy}]\n"
    ),
    "must be a file that exists": lambda f: _said(
        f, _own().replace("  data:", "  weights: trained.safetensors\n  data:")
    ),
    "names the environment variable": lambda f: _said(
        f, DIGITS + "tracking: {uri: 'postgresql://me:${MLFLOW_PASSWORD}@host/db'}\n"
    ),
    "must be importable": lambda f: _said(f, _own().replace("mine:Net", "my_project.model:Net")),
    "must name the tensors of": _unfitting_weights,
    "cannot be traced by torch.export": lambda f: _said(f, _own("Branching")),
    "is not known to paredown": lambda f: _said(f, _own("Unusual")),
    "inputs must be numbers, got NaN": lambda f: _said(f, _own(data="splits_with_nan")),
    "class numbers must be in 0..": lambda f: _searched(f, _own(data="splits_from_one")),
    "must match layers of the model": lambda f: _said(
        f, DIGITS + "space: {rules: [{layers: 'layer3*', weight_bits: [4, 8]}]}\n"
    ),
    "goals: no model of the space was found with": lambda f: _searched(
        f, LOCAL.replace("{metric: onnx_bytes}", "{metric: onnx_bytes, at_most: 1000}")
    ),
    "a search starts in an empty run folder": _occupied,
    "one process writes a study at a time": _in_use,
    "no model on the front satisfies": _picked,
    "search.ray_address must lead to a running Ray cluster": _no_cluster,
}


def _one_line(text: str) -> str:
    return " ".join(text.split())


def test_the_page_quotes_what_is_produced_here() -> None:
    assert sorted(QUOTED) == sorted(PRODUCED)


@pytest.mark.parametrize("sentence", QUOTED)
def test_a_quoted_sentence_is_what_the_mistake_brings(
    sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_PASSWORD", raising=False)
    assert sentence in _one_line(PRODUCED[sentence](tmp_path))
