"""A fabricated search for the tests of what is drawn, kept and told about one."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

from paredown.search.bundle_task import TaskSource
from paredown.search.cli import app
from paredown.search.config import dump_config, load_config
from paredown.search.evaluation import Evaluation, Goal
from paredown.search.exporting import export
from paredown.search.journal import Journal
from paredown.search.mlflow_store import connect, default_uri
from paredown.search.run_record import JOURNAL
from paredown.search.verification import Verification, Verifier
from paredown.search.workbench import Workbench, prepare
from paredown.spaces.candidate import Candidate, LayerChoice, SegmentChoice

LAYER_WEIGHTS = {
    "conv1": 432,
    **{f"layer1.{i}.conv{j}": 2304 for i in range(2) for j in (1, 2)},
    **{f"layer2.{i}.conv{j}": 9216 for i in range(2) for j in (1, 2)},
    **{f"layer3.{i}.conv{j}": 36864 for i in range(2) for j in (1, 2)},
    "linear": 640,
}
CONFIG = """\
name: toy
task: {name: digits}
goals: [{metric: accuracy}, {metric: latency_s}, {metric: onnx_bytes}]
"""
BUNDLES = """\
task: {name: digits}
hardware: {latency: roofline}
goals: [{metric: accuracy}, {metric: latency_s}, {metric: onnx_bytes}]
search: {engine: local}
"""
OWN_CODE = """\
import os, time
from pathlib import Path
import torch
from paredown.search.digits import trained_digits

Path(__file__).with_suffix(".ran").touch()

def model():
    return trained_digits(0)

def data():
    made = torch.Generator().manual_seed(0)
    images = torch.rand(40, 1, 8, 8, generator=made)
    rows = (images, torch.randint(0, 10, (40,), generator=made))
"""
SEGMENTS = ("stem", "layer1.0", "layer1.1", "layer2.0", "layer2.1", "layer3.0", "layer3.1")
WIDTHS = {"layer2.0.conv1": 32, "layer3.0.conv1": 64}


@pytest.fixture(scope="session")
def goals() -> tuple[Goal, ...]:
    return (
        Goal(metric="accuracy", direction="maximize"),
        Goal(metric="latency_s", direction="minimize"),
        Goal(metric="onnx_bytes", direction="minimize"),
    )


@pytest.fixture(scope="session")
def layer_weights() -> dict[str, int]:
    return dict(LAYER_WEIGHTS)


@pytest.fixture(scope="session")
def make_evaluations() -> Callable[[int], tuple[Evaluation, ...]]:
    """`count` invented evaluations of a small residual network, three references first."""

    def make(count: int, seed: int = 0) -> tuple[Evaluation, ...]:
        rng = random.Random(seed)
        made = [_reference(0, "uncompressed", 32), _reference(1, "uniform 8-bit", 8)]
        made.append(_reference(2, "uniform 4-bit", 4))
        while len(made) < count:
            made.append(_evaluate(len(made), _draw(rng), rng))
        return tuple(made)

    return make


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's file without a run in it: its tables take seconds to make and a moment to copy."""
    folder = tmp_path_factory.mktemp("store")
    connect(default_uri(folder)).search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def paredown() -> Callable[..., Result]:
    """Runs the command `paredown` with these arguments and gives output and exit code."""
    plain = {"COLUMNS": "160", "NO_COLOR": "1", "TERM": "dumb"}
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments], env=plain)


@pytest.fixture
def make_run(
    tmp_path: Path,
    goals: tuple[Goal, ...],
    make_evaluations: Callable[[int, int], tuple[Evaluation, ...]],
) -> Callable[..., Path]:
    """A run folder as a search leaves it, with invented evaluations."""

    def make(
        name: str = "toy",
        goals: tuple[Goal, ...] = goals,
        change: Callable[[Evaluation], Evaluation] = lambda evaluation: evaluation,
    ) -> Path:
        folder = tmp_path / "runs" / name
        journal = Journal.open(folder / JOURNAL, goals, resume=False)
        for evaluation in make_evaluations(30, 0):
            journal.append(change(evaluation), {}, {})
        journal.close()
        config = tmp_path / f"{name}.yaml"
        config.write_text(CONFIG)
        (folder / "config.yaml").write_text(dump_config(load_config(config)))
        return folder

    return make


@pytest.fixture(scope="session")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """Digits on one thread, its latency from the device file."""
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("config") / "digits.yaml"
    path.write_text(BUNDLES, encoding="utf-8")
    return prepare(load_config(path))


@pytest.fixture(scope="session")
def bundles(workbench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles of the uncompressed model, one of 4-bit weights and one in integers."""
    folder = tmp_path_factory.mktemp("bundles")
    base = workbench.evaluate_uncompressed(rung=1)
    model_map = workbench.space.model_map(base.candidate)
    names = [layer.name for layer in model_map.layers]
    segments = sorted(set(model_map.segment_of_node.values()))
    four = Candidate.of(layers={n: LayerChoice(weight_bits=4) for n in names})
    eight = Candidate.of(
        layers={n: LayerChoice(weight_bits=8) for n in names},
        segments={n: SegmentChoice(activation_bits=8) for n in segments},
    )
    made = {
        name: export(workbench, _evaluated(workbench, candidate), folder, base)
        for name, candidate in {"weights": four, "integers": eight}.items()
    }
    return made | {"uncompressed": folder / base.key}


@pytest.fixture
def planted(bundles: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a bundle, the uncompressed model beside it, to plant a fault in."""

    def copy(name: str) -> Path:
        for folder in (bundles[name], bundles["uncompressed"]):
            shutil.copytree(folder, tmp_path / folder.name, dirs_exist_ok=True)
        return tmp_path / bundles[name].name

    return copy


@pytest.fixture
def edit_card() -> Callable[[Path, Callable[[dict[str, Any]], None]], None]:
    """(bundle's folder, function that changes its card in place)."""

    def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
        card = json.loads((folder / "card.json").read_text())
        change(card)
        (folder / "card.json").write_text(json.dumps(card))

    return edit


@pytest.fixture
def own_code(tmp_path: Path) -> Callable[..., str]:
    """(name, body of its data factory) -> config of a task whose module leaves <name>.ran."""

    def write(
        name: str, data: str = "return dict.fromkeys(('train', 'search', 'test'), rows)"
    ) -> str:
        folder = tmp_path / "code"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(OWN_CODE + f"    {data}\n")
        task = f"{{name: custom, code_folder: {folder}, model: {name}:model, data: {name}:data}}"
        return f"task: {task}\ngoals: [{{metric: accuracy}}, {{metric: onnx_bytes}}]\n"

    return write


@pytest.fixture
def verify() -> Callable[..., Verification]:
    """(bundle's folder, rows of the test split or None) -> what verifying it in this process found."""
    return lambda folder, rows=None: Verifier(TaskSource(), rows).verify(folder)


def _evaluated(workbench: Workbench, candidate: Candidate) -> Evaluation:
    scored = workbench.score(workbench.assemble(candidate), workbench.task.splits.search)
    return Evaluation(
        number=1,
        key=candidate.key,
        candidate=candidate,
        metrics={"accuracy": scored.metric, "loss": scored.loss}
        | workbench.price(candidate).as_metrics(),
    )


def _reference(number: int, label: str, bits: int) -> Evaluation:
    layers = {name: LayerChoice(weight_bits=bits) for name in LAYER_WEIGHTS}
    activation_bits = 8 if bits == 8 else 32
    segments = {name: SegmentChoice(activation_bits=activation_bits) for name in SEGMENTS}
    candidate = Candidate.of(layers=layers, segments=segments)
    evaluated = _evaluate(number, candidate, random.Random(number))
    return replace(evaluated, kind="reference", label=label)


def _draw(rng: random.Random) -> Candidate:
    centre = rng.choice((2, 3, 4, 6, 8))
    nearby = [b for b in (2, 3, 4, 5, 6, 8) if abs(b - centre) <= 2]
    layers = {
        name: LayerChoice(
            weight_bits=rng.choice(nearby),
            sparsity=rng.choice((0.0, 0.0, 0.5)),
            pattern="element",
            rank_fraction=rng.choice((1.0, 1.0, 0.5)) if name == "linear" else 1.0,
        )
        for name in LAYER_WEIGHTS
    }
    share = rng.random()
    segments = {
        n: SegmentChoice(activation_bits=8 if rng.random() < share else 32) for n in SEGMENTS
    }
    widths = {name: rng.choice((full // 2, full)) for name, full in WIDTHS.items()}
    dropped = ("layer1.1",) if rng.random() < 0.15 else ()
    return Candidate.of(layers=layers, segments=segments, widths=widths, dropped=dropped)


def _evaluate(number: int, candidate: Candidate, rng: random.Random) -> Evaluation:
    total = sum(LAYER_WEIGHTS.values())
    damage = size = 0.0
    pace = 1 - 0.1 * len(candidate.dropped)
    for name, count in LAYER_WEIGHTS.items():
        choice = candidate.layer(name)
        damage += 2.0 ** (-1.6 * choice.weight_bits) * (0.6 + 3 * count / total)
        damage += 0.002 * choice.sparsity
        size += count * choice.weight_bits / 8
    for name, kept in candidate.widths:
        damage += 0.015 * (1 - kept / WIDTHS[name])
        size *= 1 - 0.2 * (1 - kept / WIDTHS[name])
        pace *= 1 - 0.3 * (1 - kept / WIDTHS[name])
    damage += 0.03 * len(candidate.dropped)
    eight = sum(candidate.segment(name).activation_bits == 8 for name in SEGMENTS) / len(SEGMENTS)
    failed = number > 2 and rng.random() < 0.05
    metrics = {
        "accuracy": round(max(0.1, 0.881 - damage + rng.gauss(0, 0.0015)), 4),
        "loss": 0.36 + 2 * damage,
        "latency_s": 0.0021 * (1 - 0.5 * eight) * pace,
        "onnx_bytes": float(round(size + 6000)),
    }
    return Evaluation(
        number=number,
        key=candidate.key,
        candidate=candidate,
        metrics={} if failed else metrics,
        error="FloatingPointError: the loss of batch 3 is NaN" if failed else None,
        duration_s=0.9 + 0.2 * rng.random(),
    )
