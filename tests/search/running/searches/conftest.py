"""A whole search on the digits, finished once for all tests that look at what it left."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from paredown.search.config.schema import SearchSection
from paredown.search.evaluating.scoring import Evaluator
from paredown.search.proposing.coordinator import Coordinator
from paredown.search.running import course, working
from paredown.search.running.engines import trial
from paredown.search.running.timetable import Timetable
from paredown.search.running.whole_search import RunResult, run
from paredown.search.study.bundle_check import BundleCheck
from paredown.search.study.evaluation import Evaluation
from paredown.search.study.pareto import Front
from paredown.search.tracking.mlflow_store import connect, default_uri
from paredown.search.tracking.mlflow_text import PARENT_TAG

CONFIG = """\
name: toy
task: {name: digits}
space:
  rules:
    - {layers: "*", weight_bits: [4, 8, 32], method: [rtn]}
    - {segments: "*", activation_bits: [8, 32], tie: true}
goals: [{metric: accuracy}, {metric: onnx_bytes}]
hardware: {latency: roofline}
search: {engine: local, sampler: random, evaluations: 9, batch: 4, rung_images: 100000}
"""


class Recorder:
    """Keeps what a watcher is told."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.notices: list[str] = []
        self.counts: list[int] = []
        self.results: list[RunResult] = []
        self.total = 0
        self.tables: list[Timetable] = []
        self.verifications: list[tuple[int, int]] = []

    def planned(self, table: Timetable) -> None:
        self.tables.append(table)

    def verifying(self, total: int) -> None:
        self.verifications.append((0, total))

    def verified(self, check: BundleCheck, done: int, total: int) -> None:
        self.verifications.append((done, total))

    def started(self, total: int) -> None:
        self.total = total

    def stage(self, text: str) -> None:
        self.stages.append(text)

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def told(self, evaluation: Evaluation, front: Front, hypervolume: float, done: int) -> None:
        self.counts.append(done)

    def finished(self, result: RunResult) -> None:
        self.results.append(result)


class InThisProcess:
    """The local engine without its processes: they begin slowly, and no patch reaches them."""

    def __init__(self, evaluator: Evaluator, section: SearchSection) -> None:
        self._evaluator = evaluator

    def __enter__(self) -> InThisProcess:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def run(self, coordinator: Coordinator) -> None:
        while not coordinator.is_done:
            job = coordinator.next()
            if job is not None:
                coordinator.finish(job, trial.carry_out(self._evaluator, job))


@pytest.fixture(scope="session", autouse=True)
def _in_this_process() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(working, "local_engine", InThisProcess)
        yield


@pytest.fixture(scope="session")
def config_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine evaluations of tied activations and free bits, all of them on the whole search split."""
    path = tmp_path_factory.mktemp("config") / "toy.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="session")
def finished(
    config_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunResult, Recorder]:
    """One complete search with its export, and what it told its watcher; not to be changed."""
    recorder = Recorder()
    folder = tmp_path_factory.mktemp("runs")
    return run(config_file, overrides=[f"output.folder={folder}"], watch=recorder), recorder


@pytest.fixture
def copied(finished: tuple[RunResult, Recorder], tmp_path: Path) -> Path:
    """A copy of the finished run, to be resumed, without its pages."""
    result, _ = finished
    folder = shutil.copytree(result.folder, tmp_path / "toy")
    for page in ("report.html", "front.json"):
        (folder / page).unlink()
    return folder


@pytest.fixture
def unwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches end before models and pages are written, which is seen in `finished` and takes longer."""
    monkeypatch.setattr(course, "export_front", lambda *_: ())
    monkeypatch.setattr(course, "write_pages", lambda *_: None)
    monkeypatch.setattr(course, "log_pages", lambda *_: None)


@pytest.fixture
def search(config_file: Path, empty_store: Path) -> Callable[..., RunResult]:
    """(folder, overrides, resume) -> the search of `config_file` carried out in <folder>/toy."""

    def carry_out(folder: Path, *overrides: str, resume: bool = False) -> RunResult:
        store = folder / "toy" / empty_store.name
        if not store.exists():
            store.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(empty_store, store)
        overrides = (f"output.folder={folder}", *overrides)
        return run(config_file, overrides=overrides, resume=resume)

    return carry_out


@pytest.fixture
def parent_status() -> Callable[[Path], str]:
    """What MLflow says became of the search in a run's folder; its run is the only one of the kind."""

    def status(folder: Path) -> str:
        client = connect(default_uri(folder))
        runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
        (parent,) = [r for r in runs if PARENT_TAG not in r.data.tags]
        return str(parent.info.status)

    return status
