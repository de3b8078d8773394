"""A small project of a user's own, to plant one mistake at a time in."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result

CODE = """\
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, out=3):
        super().__init__()
        self.inner = nn.Linear(4, 8)
        self.head = nn.Linear(8, out)

    def forward(self, x):
        return self.head(self.inner(x).relu())


def model():
    torch.manual_seed(0)
    return Net()


def rows(count, seed):
    x = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
    return x, x[:, :3].argmax(1)


def changed(x, y):
    return x, y


def data():
    splits = {"train": (64, 0), "search": (48, 1), "test": (48, 2)}
    return {name: changed(*rows(*each)) for name, each in splits.items()}


def score(outputs, targets):
    return float((outputs.argmax(1) == targets).float().mean())


def loss(outputs, targets):
    return torch.nn.functional.cross_entropy(outputs, targets)
"""
CONFIG = """\
name: toy
task: {name: custom, model: "mine:model", data: "mine:data"}
hardware: {latency: roofline, device: x86-avx2-ort}
goals: [{metric: accuracy}, {metric: onnx_bytes}]
search: {engine: local, evaluations: 3}
"""


@pytest.fixture
def project(tmp_path: Path, clean_imports: None) -> Callable[..., Path]:
    """(more code, text of the config) -> path of the config; the code redefines what it names."""

    def write(code: str = "", config: str = CONFIG) -> Path:
        (tmp_path / "mine.py").write_text(f"{CODE}\n\n{code}\n")
        path = tmp_path / "toy.yaml"
        path.write_text(config)
        return path

    return write


@pytest.fixture
def refused(
    paredown: Callable[..., Result], tmp_path: Path, record_property: Callable[[str, object], None]
) -> Iterator[Callable[..., str]]:
    """(path of a config, settings) -> what the refusal of the search says: exit code 2, no traceback."""

    def run(path: Path, *settings: str, plain: bool = False) -> str:
        runs = f"output.folder={tmp_path / 'runs'}"
        # `plain` gives no settings at all.
        all_settings = () if plain else (runs, *settings)
        given = [part for each in all_settings for part in ("--set", each)]
        done = paredown("search", path, *given)
        said = done.stderr.strip()
        record_property("exit", done.exit_code)
        record_property("said", said.split("\n")[0])
        assert done.exit_code == 2, done.output
        assert isinstance(done.exception, SystemExit)
        assert "Traceback" not in done.output
        # Nothing expensive was begun.
        assert "collecting statistics" not in done.stdout
        return said

    before = list(sys.path)
    yield run
    sys.path[:] = before
