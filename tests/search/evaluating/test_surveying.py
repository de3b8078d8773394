"""A part of a config's networks, read alone, is priced and exported as with all of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from paredown.compressors.training.kept import TrainedModels
from paredown.hardware_models.devices.device import DEVICES, DeviceError
from paredown.search.bundles.exporting import BUNDLE_FILES, export
from paredown.search.calibrating.drawing import uniform
from paredown.search.config.reading import Config, load_config
from paredown.search.evaluating import surveying
from paredown.search.evaluating.surveying import survey, survey_part
from paredown.search.evaluating.workbench import Workbench, prepare, prepare_part
from paredown.search.study.evaluation import Evaluation
from paredown.search.study.rung import Rung
from paredown.spaces.capture.capturing import Captured
from paredown.spaces.structure.model_map import ModelMap
from paredown.spaces.structure.reading import read_model_map

CONFIG = """
task: {name: digits, calibration_images: 64}
space:
  architectures: {large: {}, small: {kwargs: {inner: 16}}}
hardware: {latency: roofline, device: x86-avx512-vnni-ort}
goals: [{metric: accuracy}, {metric: latency_s}, {metric: onnx_bytes}]
search: {engine: local}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    path = tmp_path_factory.mktemp("config") / "two.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    return load_config(path)


@pytest.fixture
def read_weights(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Weights of each network whose map is read, as it is read."""
    seen: list[int] = []

    def counted(captured: Captured) -> ModelMap:
        seen.append(sum(t.numel() for t in captured.tensors.values()))
        return read_model_map(captured)

    monkeypatch.setattr(surveying, "read_model_map", counted)
    return seen


def test_a_part_reads_the_reference_and_what_is_asked_for_alone(
    config: Config, read_weights: list[int]
) -> None:
    part = survey_part(config, {"large"})
    assert [a.name for a in part.space.architectures] == ["large"]
    assert len(read_weights) == 1
    both = survey_part(config, {"small"})
    assert [a.name for a in both.space.architectures] == ["large", "small"]
    assert not any(a.knobs for a in both.space.architectures)
    whole = survey(config)
    for name in ("large", "small"):
        assert both.space.by_name[name].model_map == whole.space.by_name[name].model_map


def test_what_a_part_exports_is_what_the_whole_exports(config: Config, tmp_path: Path) -> None:
    whole = prepare(config)
    base = whole.evaluate_uncompressed(Rung(rows=20))
    candidate = uniform(whole.space, "small", 4)
    chosen = Evaluation(number=1, key=candidate.key, candidate=candidate, metrics={"loss": 1.0})
    part = prepare_part(config, tmp_path / "latency.json", {"small", "large"})
    assert set(prepare_part(config, tmp_path / "latency.json", {"small"}).databases) == {"small"}

    def exported(workbench: Workbench, name: str) -> Callable[[str], bytes]:
        folder = export(workbench, chosen, tmp_path / name, base, TrainedModels(tmp_path))
        return lambda file: (folder / file).read_bytes()

    first, second = exported(whole, "whole"), exported(part, "part")
    for file in (*BUNDLE_FILES, "card.json"):
        assert first(file) == second(file), file


def test_a_further_device_is_named_after_its_file(config: Config, tmp_path: Path) -> None:
    path = tmp_path / "board.yaml"
    text = (DEVICES / "rpi5-a76-ort.yaml").read_text()
    path.write_text(text)
    hardware = config.hardware.model_copy(update={"also": (str(path),)})
    two = config.model_copy(update={"hardware": hardware})
    with pytest.raises(DeviceError, match=r"'rpi5-a76-ort'; set `name: board`"):
        survey(two)
    path.write_text(text.replace("name: rpi5-a76-ort", "name: board", 1))
    found = survey(two)
    assert tuple(f"latency_s@{device.name}" for device in found.also) == hardware.latency_metrics


def test_memory_of_weights_is_a_goal_where_it_is_known(tmp_path: Path) -> None:
    path = tmp_path / "goals.yaml"
    goals = CONFIG.replace("{metric: onnx_bytes}", "{metric: weight_memory_bytes, at_most: 9e5}")
    path.write_text(goals, encoding="utf-8")
    assert survey(load_config(path)).device.name == "x86-avx512-vnni-ort"
    path.write_text(goals.replace("x86-avx512-vnni-ort", "stm32h743-cmsis-nn"), encoding="utf-8")
    with pytest.raises(
        DeviceError, match=r"goals\[2\].metric: weight_memory_bytes .* runs tflite"
    ):
        survey(load_config(path))
