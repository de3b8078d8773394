"""Bundles are written with cards that pin their files down, and taken over only where they hold."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from paredown.compressors.bundle.loading import BundleError, digest_of
from paredown.compressors.training.kept import TrainedModels
from paredown.hardware_models.devices.device import DeviceError
from paredown.search.bundles import exporting
from paredown.search.bundles.exporting import BUNDLE_FILES, export, is_written, take_written
from paredown.search.config.reading import card_config, dump_config, load_config
from paredown.search.evaluating.workbench import Workbench
from paredown.search.study.evaluation import Evaluation
from paredown.search.study.rung import Rung
from paredown.spaces.candidates.candidate import Candidate, LayerChoice

CARD = "card.json"
NONE_TRAINED = TrainedModels(Path("trained"))
EditCard = Callable[[Path, Callable[[dict[str, Any]], None]], None]


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A folder with the bundles of an uncompressed model and of one whose weights have 4 bits."""

    folder: Path
    base: Evaluation
    four: Evaluation
    config_yaml: str

    def card(self, evaluation: Evaluation) -> dict[str, Any]:
        return dict(json.loads((self.folder / evaluation.key / CARD).read_text()))

    def taken(self, folder: Path, **changes: Any) -> bool:
        """Whether the 4-bit model is taken over into `folder`."""
        asked = {"evaluation": self.four, "base": self.base, "config_yaml": self.config_yaml}
        return take_written(**{**asked, **changes}, source=self.folder, folder=folder)


def of_bits(workbench: Workbench, bits: int) -> Evaluation:
    """A model of such weights, its accuracy invented."""
    layers = workbench.space.model_map(Candidate()).layers
    candidate = Candidate.of(layers={x.name: LayerChoice(weight_bits=bits) for x in layers})
    metrics = {"accuracy": 0.9, **workbench.price(candidate)}
    return Evaluation(number=bits, key=candidate.key, candidate=candidate, metrics=metrics)


@pytest.fixture(scope="module")
def written(workbench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("written")
    base, four = workbench.evaluate_uncompressed(Rung(rows=20)), of_bits(workbench, 4)
    assert export(workbench, four, folder, base, NONE_TRAINED) == folder / four.key
    text = card_config(workbench.config)
    return Exported(folder=folder, base=base, four=four, config_yaml=text)


@pytest.fixture
def exported(written: Exported, tmp_path: Path) -> Exported:
    """A copy to plant faults in."""
    folder = tmp_path / "bundles"
    shutil.copytree(written.folder, folder)
    return replace(written, folder=folder)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_card_pins_down_every_file_and_the_uncompressed_one(written: Exported) -> None:
    beside = written.folder / written.base.key
    reference = hashlib.sha256((beside / "model.onnx").read_bytes()).hexdigest()
    for evaluation, place in ((written.four, f"../{beside.name}"), (written.base, ".")):
        folder, card = written.folder / evaluation.key, written.card(evaluation)
        assert card["files"] == {
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in BUNDLE_FILES
        }
        assert names(folder) == {*BUNDLE_FILES, CARD, "README.md"}
        assert card["uncompressed"]["onnx_sha256"] == reference
        assert card["uncompressed"]["bundle"] == place
        assert card["config_yaml"] == written.config_yaml


def test_a_card_says_what_the_search_found_and_the_cost_model_predicts(
    written: Exported, workbench: Workbench
) -> None:
    card = written.card(written.four)
    assert card["predicted"].items() >= dict(written.four.metrics).items()
    assert card["uncompressed"]["accuracy"] == written.base.metrics["accuracy"]
    whole = workbench.price(written.base.candidate)
    assert card["uncompressed"]["onnx_bytes"] == whole["onnx_bytes"]
    assert card["predicted"]["onnx_bytes"] < whole["onnx_bytes"]
    ratio = written.card(written.base)["predicted"]
    assert ratio["latency_ratio_low"] <= 1 <= ratio["latency_ratio_high"]
    assert ratio["latency_ratio"] == pytest.approx(1)


def test_the_uncompressed_model_is_written_once(exported: Exported, workbench: Workbench) -> None:
    beside = exported.folder / exported.base.key
    before = {path: path.stat().st_ino for path in beside.iterdir()}
    eight = of_bits(workbench, 8)
    export(workbench, eight, exported.folder, exported.base, NONE_TRAINED)
    assert names(exported.folder) == {exported.base.key, exported.four.key, eight.key}
    assert {path: path.stat().st_ino for path in beside.iterdir()} == before


def test_an_uncompressed_model_that_is_damaged_is_written_again(
    exported: Exported, workbench: Workbench
) -> None:
    beside = exported.folder / exported.base.key
    before = contents(beside)
    (beside / "model.onnx").write_bytes(b"half")
    export(workbench, exported.four, exported.folder, exported.base, NONE_TRAINED)
    assert contents(beside) == before


def test_the_uncompressed_model_alone_is_one_bundle_scored_on_the_whole_search_split(
    workbench: Workbench, tmp_path: Path
) -> None:
    base = workbench.evaluate_uncompressed(workbench.rungs[-1])
    export(workbench, base, tmp_path, base, NONE_TRAINED)
    assert names(tmp_path) == {base.key}
    card = json.loads((tmp_path / base.key / CARD).read_text())
    assert card["uncompressed"]["accuracy"] == base.metrics["accuracy"]


@pytest.mark.parametrize("is_here", [True, False])
def test_a_card_names_the_machine_only_where_it_is_the_device(
    is_here: bool, exported: Exported, workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def host() -> Any:
        if is_here:
            return workbench.device
        raise DeviceError("no shipped device describes this machine")

    monkeypatch.setattr(exporting, "host_device", host)
    export(workbench, exported.four, exported.folder, exported.base, NONE_TRAINED)
    hardware = exported.card(exported.four)["hardware"]
    assert (hardware["machine"] is not None) is is_here
    assert hardware["device"] == workbench.device.name
    assert hardware["is_timed"] is False


def test_a_digest_is_the_sha_256_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest_of(tmp_path / "abc") == expected


@pytest.mark.parametrize("file", [*BUNDLE_FILES, CARD])
@pytest.mark.parametrize("left", [None, 0, 100])
def test_a_bundle_counts_as_written_while_all_its_files_are_whole(
    exported: Exported, file: str, left: int | None
) -> None:
    folder = exported.folder / exported.four.key
    assert is_written(folder, exported.config_yaml)
    if left is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes((folder / file).read_bytes()[:left])
    assert not is_written(folder, exported.config_yaml)
    assert not exported.taken(exported.folder.parent / "out")


def test_a_card_that_is_json_of_another_kind_is_no_bundle(exported: Exported) -> None:
    folder = exported.folder / exported.four.key
    (folder / CARD).write_text("[1, 2]")
    assert not is_written(folder, exported.config_yaml)


def test_what_a_bundle_is_made_from_counts_and_where_its_run_was_kept_does_not(
    exported: Exported, workbench: Workbench
) -> None:
    folder, path = exported.folder / exported.four.key, exported.folder / "config.yaml"
    path.write_text(dump_config(workbench.config))

    def is_of(*overrides: str) -> bool:
        return is_written(folder, card_config(load_config(path, overrides)))

    assert is_of()
    assert is_of("search.evaluations=7", "output.folder=elsewhere", "tracking.experiment=other")
    assert not is_of("hardware.batch_size=2")
    assert not is_of("task.calibration_images=64")
    assert not is_written(exported.folder / "none", exported.config_yaml)


def test_a_bundle_is_taken_over_with_the_uncompressed_one(
    exported: Exported, tmp_path: Path
) -> None:
    assert exported.taken(tmp_path / "out")
    assert names(tmp_path / "out") == {exported.four.key, exported.base.key}
    for key in (exported.four.key, exported.base.key):
        assert contents(tmp_path / "out" / key) == contents(exported.folder / key)


def test_a_bundle_that_lies_there_already_is_not_copied(exported: Exported) -> None:
    paths = list(exported.folder.glob("*/*"))
    before = [path.stat().st_ino for path in paths]
    assert exported.taken(exported.folder)
    assert exported.taken(exported.folder, evaluation=exported.base)
    assert [path.stat().st_ino for path in paths] == before


def test_an_uncompressed_model_that_lies_there_already_serves(
    exported: Exported, tmp_path: Path
) -> None:
    shutil.copytree(exported.folder / exported.base.key, tmp_path / "out" / exported.base.key)
    shutil.rmtree(exported.folder / exported.base.key)
    assert exported.taken(tmp_path / "out")
    assert names(tmp_path / "out") == {exported.four.key, exported.base.key}


def test_a_bundle_of_another_evaluation_or_config_is_not_taken(
    exported: Exported, tmp_path: Path
) -> None:
    rescored = replace(exported.four, metrics={**exported.four.metrics, "accuracy": 0.91})
    added = replace(exported.four, metrics={**exported.four.metrics, "f1": 0.9})
    for evaluation in (rescored, added):
        assert not exported.taken(tmp_path / "out", evaluation=evaluation)
    assert not exported.taken(tmp_path / "out", config_yaml=exported.config_yaml + "# more\n")
    assert names(tmp_path / "out") == set()


def test_a_bundle_is_not_taken_without_its_uncompressed_model(
    exported: Exported, tmp_path: Path
) -> None:
    rescored = replace(exported.base, metrics={**exported.base.metrics, "accuracy": 0.5})
    assert not exported.taken(tmp_path / "out", base=rescored)
    shutil.rmtree(exported.folder / exported.base.key)
    assert not exported.taken(tmp_path / "out")
    assert names(tmp_path / "out") == set()


def test_a_bundle_is_not_taken_beside_another_uncompressed_model(
    exported: Exported, tmp_path: Path, edit_card: EditCard
) -> None:
    """Of the same key and figures, but other weights: its ratios would not be those of the card."""
    other = tmp_path / "out" / exported.base.key
    shutil.copytree(exported.folder / exported.base.key, other)
    with (other / "model.onnx").open("ab") as file:
        file.write(b"\0")
    changed = {"model.onnx": digest_of(other / "model.onnx")}
    edit_card(other, lambda card: card["files"].update(changed))
    assert is_written(other, exported.config_yaml)
    assert not exported.taken(tmp_path / "out")
    assert names(tmp_path / "out") == {exported.base.key}


def test_a_folder_that_holds_something_else_is_left_alone(
    exported: Exported, workbench: Workbench, tmp_path: Path
) -> None:
    place = tmp_path / "out" / exported.four.key
    place.mkdir(parents=True)
    (place / "thesis.tex").touch()
    with pytest.raises(BundleError, match="holds no bundle"):
        exported.taken(tmp_path / "out")
    with pytest.raises(BundleError, match="holds no bundle"):
        export(workbench, exported.four, tmp_path / "out", exported.base, NONE_TRAINED)
    assert names(place) == {"thesis.tex"}


def test_files_of_the_task_are_exported_as_they_are_and_pinned(
    workbench: Workbench, tmp_path: Path
) -> None:
    files = {"tokenizer.json": b"{}", "config.json": b'{"model_type": "bert"}\n'}
    bench = replace(workbench, task=replace(workbench.task, files=files))
    base = bench.evaluate_uncompressed(Rung(rows=20))
    folder = export(bench, base, tmp_path, base, NONE_TRAINED)
    pinned = json.loads((folder / CARD).read_text())["files"]
    for name, content in files.items():
        assert (folder / name).read_bytes() == content
        assert pinned[name] == hashlib.sha256(content).hexdigest()
    text = card_config(bench.config)
    assert is_written(folder, text)
    (folder / "tokenizer.json").write_bytes(b"[]")
    assert not is_written(folder, text)
    (folder / "tokenizer.json").unlink()
    assert not is_written(folder, text)
