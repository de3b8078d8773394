"""A fabricated search for the tests of what is drawn, kept and told about one."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from click.testing import Result
from torch import nn
from typer.testing import CliRunner

from paredown.compressors.training.kept import TrainedModels
from paredown.search.bundles.exporting import export
from paredown.search.bundles.task import TaskSource
from paredown.search.bundles.verification import Verifier
from paredown.search.cli.commands import app
from paredown.search.config.reading import ConfigError, dump_config, load_config
from paredown.search.evaluating.recovery import Recovery
from paredown.search.evaluating.workbench import Workbench, prepare
from paredown.search.study.bundle_check import BundleCheck
from paredown.search.study.evaluation import Evaluation, Goal
from paredown.search.study.journal import Journal
from paredown.search.study.run_record import JOURNAL
from paredown.search.tasks.digits import DigitsNet
from paredown.search.tracking.mlflow_store import connect, default_uri
from paredown.spaces.candidates.candidate import Candidate, LayerChoice, SegmentChoice
from paredown.spaces.capture.capturing import Captured, capture
from paredown.spaces.system.sealed import write_sealed


def _load(name: str) -> ModuleType:
    # pytest's importlib mode has no package for tests, so the file is loaded by its path.
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"paredown_tests_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_INVENTED = _load("invented")
_RESCALING = _load("rescaling")
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
from paredown.search.tasks.digits import trained_digits

Path(__file__).with_suffix(".ran").touch()

def model():
    return trained_digits(0)

def data():
    made = torch.Generator().manual_seed(0)
    images = torch.rand(40, 1, 8, 8, generator=made)
    rows = (images, torch.randint(0, 10, (40,), generator=made))
"""


@pytest.fixture(scope="session")
def goals() -> tuple[Goal, ...]:
    return (
        Goal(metric="accuracy", direction="maximize"),
        Goal(metric="latency_s", direction="minimize"),
        Goal(metric="onnx_bytes", direction="minimize"),
    )


@pytest.fixture(scope="session")
def layer_weights() -> dict[str, int]:
    return dict(_INVENTED.LAYER_WEIGHTS)


@pytest.fixture(scope="session")
def make_evaluations() -> Callable[[int], tuple[Evaluation, ...]]:
    """`count` invented evaluations of a small residual network, three references first."""
    invent: Callable[..., tuple[Evaluation, ...]] = _INVENTED.invent
    return invent


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's file without a run in it: its tables take seconds to make and a moment to copy."""
    folder = tmp_path_factory.mktemp("store")
    connect(default_uri(folder)).search_experiments()
    return folder / "mlflow.db"


@pytest.fixture(scope="session")
def rescaling() -> Recovery:
    """A recovery on two rungs, by a toy trainer."""
    recovery: Recovery = _RESCALING.RECOVERY
    return recovery


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


@pytest.fixture(scope="session", autouse=True)
def _captured_once() -> Iterator[None]:
    """Each network of the digits is captured once: a dozen searches would do the same again."""
    known: dict[object, Captured] = {}

    def remembering(module: nn.Module, example: Any, lengths: Any = None) -> Captured:
        if lengths or not isinstance(module, DigitsNet):
            return capture(module, example, lengths)
        weights = b"".join(t.numpy().tobytes() for t in module.state_dict().values())
        shapes = tuple(part.shape for part in example)
        if (weights, shapes) not in known:
            known[weights, shapes] = capture(module, example)
        return known[weights, shapes]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("paredown.search.evaluating.surveying.capture", remembering)
        yield


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
    base = workbench.evaluate_uncompressed(workbench.rungs[-1])
    model_map = workbench.space.model_map(base.candidate)
    names = [layer.name for layer in model_map.layers]
    segments = sorted(set(model_map.segment_of_node.values()))
    four = Candidate.of(layers={n: LayerChoice(weight_bits=4) for n in names})
    eight = Candidate.of(
        layers={n: LayerChoice(weight_bits=8) for n in names},
        segments={n: SegmentChoice(activation_bits=8) for n in segments},
    )
    made = {
        name: export(
            workbench, _evaluated(workbench, candidate), folder, base, TrainedModels(folder)
        )
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
        write_sealed(folder / "card.json", card)

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
def write_config(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a config and gives its path."""

    def write_text(text: str) -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return path

    return write_text


@pytest.fixture
def mistakes() -> Callable[..., str]:
    """(path of a config, overrides...) -> what the refusal to load it says."""

    def told(path: Path, *overrides: str) -> str:
        with pytest.raises(ConfigError) as caught:
            load_config(path, overrides)
        return str(caught.value)

    return told


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a cache that no other test and no person uses."""
    monkeypatch.setenv("PAREDOWN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def clean_imports() -> Iterator[None]:
    """Forgets what a test imported, so that folders of different tests do not meet."""
    modules, path = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.split(".")[0] in ("my_project", "mine"):
            del sys.modules[name]


@pytest.fixture
def verify() -> Callable[..., BundleCheck]:
    """(bundle's folder, rows of the test split or None) -> what verifying it in this process found."""
    return lambda folder, rows=None: Verifier(TaskSource(), rows).verify(folder)


def _evaluated(workbench: Workbench, candidate: Candidate) -> Evaluation:
    scored = workbench.score(workbench.assemble(candidate), workbench.task.splits.search)
    return Evaluation(
        number=1,
        key=candidate.key,
        candidate=candidate,
        metrics={"accuracy": scored.metric, "loss": scored.loss} | workbench.price(candidate),
    )
