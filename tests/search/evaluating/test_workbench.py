"""Two devices in one search: metrics, bounds, what the space offers, and what reports must say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.latency.models import RooflineLatency
from paredown.hardware_models.work.workload import read_work
from paredown.search.config.reading import ConfigError, load_config
from paredown.search.evaluating.bounds import absolute_goals
from paredown.search.evaluating.surveying import survey
from paredown.search.evaluating.workbench import Workbench, prepare
from paredown.spaces.knobs.width import WidthKnob

CONFIG = """
task: {name: digits}
hardware: {latency: roofline, device: x86-avx512-vnni-ort, also: [rpi5-a76-ort]}
goals:
  - {metric: accuracy}
  - {metric: latency_s}
  - {metric: latency_s@rpi5-a76-ort, at_most: 0.5, relative: true}
search: {engine: local}
"""
ON_PI = "latency_s@rpi5-a76-ort"


def written(folder: Path, text: str) -> Path:
    path = folder / "digits.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    torch.set_num_threads(1)
    return prepare(load_config(written(tmp_path_factory.mktemp("config"), CONFIG)))


def test_the_second_device_has_a_latency_of_its_own(workbench: Workbench) -> None:
    candidate = workbench.uncompressed()
    found = workbench.price(candidate)
    work = read_work(workbench.blueprint(candidate))
    preset = RooflineLatency(load_device("rpi5-a76-ort"))
    assert found[ON_PI] == preset.predict(work).value_s
    assert found[ON_PI] != found["latency_s"]


def test_its_bound_is_against_the_uncompressed_model(workbench: Workbench) -> None:
    whole = workbench.price(workbench.uncompressed())
    goals = absolute_goals(workbench.config.goals, whole)
    assert goals[2].direction == "minimize"
    assert goals[2].at_most == 0.5 * whole[ON_PI]


def test_presets_that_were_not_measured_are_told(workbench: Workbench) -> None:
    (caveat,) = workbench.caveats
    assert "rpi5-a76-ort was not measured" in caveat


def test_the_space_follows_both_devices(workbench: Workbench, tmp_path: Path) -> None:
    surveyed = survey(load_config(written(tmp_path, CONFIG)))
    assert surveyed.offered.width_step == 8
    widths = {w for k in surveyed.space.architectures[0].knobs_of(WidthKnob) for w in k.domain}
    assert 24 in widths


@pytest.mark.parametrize(
    ("also", "message"),
    [
        ("[x86-avx512-vnni-ort]", "devices other than `device`"),
        ("[host]", "not as host"),
        ("[rpi5-a76-ort, rpi5-a76-ort]", "each once"),
        ("[]", "must be one of"),
    ],
)
def test_a_device_twice_or_missing_is_refused(also: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(written(tmp_path, CONFIG.replace("[rpi5-a76-ort]", also)))
