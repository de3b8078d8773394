"""Bundles that a search wrote are taken as they are; others are written with what they need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from paredown.compressors.training.kept import TrainedModels
from paredown.search.bundles.exporting import BUNDLE_FILES, export
from paredown.search.config.reading import Config, dump_config
from paredown.search.evaluating.workbench import Workbench
from paredown.search.report.terminal import Terminal
from paredown.search.running import delivering
from paredown.search.running.delivering import deliver
from paredown.search.study.evaluation import Evaluation
from paredown.search.study.pareto import Front
from paredown.search.study.run_record import CONFIG, RunRecord
from paredown.search.study.rung import Rung
from paredown.spaces.candidates.candidate import Candidate, LayerChoice


@pytest.fixture
def record(workbench: Workbench, tmp_path: Path) -> RunRecord:
    """A run of three evaluations: uncompressed, 8 bits and 4 bits, none exported yet."""
    base = workbench.evaluate_uncompressed(Rung(rows=20))
    names = [layer.name for layer in workbench.space.model_map(base.candidate).layers]
    found = [base]
    for bits in (8, 4):
        candidate = Candidate.of(layers={n: LayerChoice(weight_bits=bits) for n in names})
        metrics = {"accuracy": 0.9, **workbench.price(candidate)}
        number = len(found)
        found.append(
            Evaluation(number=number, key=candidate.key, candidate=candidate, metrics=metrics)
        )
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / CONFIG).write_text(dump_config(workbench.config))
    return RunRecord(folder=folder, goals=(), evaluations=tuple(found), front=Front(()))


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch, workbench: Workbench) -> list[set[str]]:
    """Architectures that workbenches are prepared for; nothing is verified."""
    asked: list[set[str]] = []

    def prepare_part(config: Config, latency_file: Path, architectures: set[str]) -> Workbench:
        asked.append(architectures)
        return workbench

    def verify(folders: Sequence[Path], *_: Any) -> tuple[()]:
        assert all((folder / "card.json").is_file() for folder in folders)
        return ()

    monkeypatch.setattr("paredown.search.evaluating.workbench.prepare_part", prepare_part)
    monkeypatch.setattr(delivering, "verify", verify)
    return asked


@pytest.fixture
def searched(record: RunRecord, workbench: Workbench) -> RunRecord:
    """The same run after its search exported the 8-bit model."""
    kept = TrainedModels(record.folder / "trained")
    bundles = record.folder / "bundles"
    export(workbench, record.evaluations[1], bundles, record.evaluations[0], kept)
    return record


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def give(record: RunRecord, out: Path, *numbers: int) -> None:
    chosen = [record.evaluations[number] for number in numbers]
    deliver(record, chosen, out, Terminal(quiet=True))


def test_a_bundle_of_the_search_is_taken_over_with_the_uncompressed_one(
    searched: RunRecord, prepared: list[set[str]], tmp_path: Path
) -> None:
    give(searched, tmp_path / "out", 1)
    give(searched, searched.folder / "bundles", 1, 0)
    assert prepared == []
    for evaluation in searched.evaluations[:2]:
        written = contents(searched.folder / "bundles" / evaluation.key)
        assert contents(tmp_path / "out" / evaluation.key) == written
        assert written.keys() >= {*BUNDLE_FILES, "card.json"}


def test_what_the_search_did_not_export_is_written_now(
    searched: RunRecord, prepared: list[set[str]], tmp_path: Path
) -> None:
    give(searched, tmp_path / "out", 1, 2)
    assert prepared == [{""}]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        evaluation.key for evaluation in searched.evaluations
    }


def test_a_bundle_that_is_not_whole_is_written_again(
    searched: RunRecord, prepared: list[set[str]]
) -> None:
    bundle = searched.folder / "bundles" / searched.evaluations[1].key
    before = contents(bundle)
    (bundle / "model.onnx").write_bytes(before["model.onnx"][:100])
    give(searched, searched.folder / "bundles", 1)
    assert prepared == [{""}]
    assert contents(bundle) == before


def test_a_bundle_of_an_earlier_rung_is_written_again_once(
    searched: RunRecord, prepared: list[set[str]]
) -> None:
    first, second, *_ = searched.evaluations
    again = replace(second, rung=Rung(number=1), metrics={**second.metrics, "accuracy": 0.91})
    rescored = replace(searched, evaluations=(first, again))
    give(rescored, searched.folder / "bundles", 1)
    assert prepared == [{""}]
    give(rescored, searched.folder / "bundles", 1)
    assert len(prepared) == 1
