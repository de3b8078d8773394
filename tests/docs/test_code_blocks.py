"""Every code block of README and docs, run as it stands: Python, configs and commands."""

from __future__ import annotations

import functools
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
import yaml
from safetensors.torch import load_file, save_file

from paredown.hardware_models.energy import metered_energy
from paredown.hardware_models.work.workload import read_work
from paredown.search.cli.commands import app
from paredown.search.config.reading import load_config
from paredown.search.running.whole_search import run
from paredown.search.tasks.cifar10 import resnet
from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.candidates.drafting import draft

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "examples").glob("*/README.md")),
]
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_KNOWN = {"", "text", "python", "yaml", "sh"}
_SMALL = """\
task: {name: digits}
space: {rules: [{layers: "*", weight_bits: [4, 8, 32], method: [rtn]}]}
goals: [{metric: accuracy}, {metric: onnx_bytes}]
hardware: {latency: roofline}
search: {engine: local, sampler: random, evaluations: 4, rung_images: 100000}
"""
"""In place of examples/digits.yaml: the same search in seconds."""


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def _blocks(page: Path, language: str) -> list[str]:
    found = _BLOCK.findall(page.read_text(encoding="utf-8"))
    return [text for each, text in found if each == language]


def _pages_with(language: str) -> list[str]:
    return [_name(page) for page in PAGES if _blocks(page, language)]


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_block_names_a_language_that_these_tests_read(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert {language for language, _ in _BLOCK.findall(text)} <= _KNOWN
    assert len(_BLOCK.findall(text)) * 2 == len(re.findall(r"^```", text, re.MULTILINE))


class _Meter:
    """Counts what `run` spends: energy for a machine without a counter."""

    name = "a meter of the tests"
    spent_j = 0.0

    @classmethod
    def run(cls, energy_j: float) -> None:
        cls.spent_j += energy_j

    def read_j(self) -> float:
        return self.spent_j


def _cost_models(mapped: Callable[[str], Any]) -> dict[str, Any]:
    names = ("resnet_a", "mlp", "vgg", "lenet")
    works = [read_work(draft(mapped(name), Candidate())) for name in names]
    return {
        "works": works,
        "runs": [functools.partial(_Meter.run, work.macs * 1e-9) for work in works],
    }


def _bundle(_: Callable[[str], Any]) -> dict[str, Any]:
    """A bundle of a finished run, its config in the current folder, and rows to train it on."""
    Path("config.yaml").write_text(_SMALL)
    result = run("config.yaml")
    bundle = next(b.folder for b in result.bundles if b.key != result.evaluations[0].key)
    return {"bundle": bundle, "images": torch.rand(4, 1, 8, 8), "labels": torch.arange(4)}


GIVEN: dict[str, Callable[[Callable[[str], Any]], dict[str, Any]]] = {
    "docs/cost_models.md": _cost_models,
    "docs/recovery.md": _bundle,
    "docs/extending_knob.md": lambda mapped: {"model_map": mapped("resnet_projection")},
}
"""What the text of a page says is there before its blocks."""


@pytest.mark.parametrize("page", [each for each in _pages_with("python") if each != "README.md"])
def test_the_python_of_a_page_runs_from_its_top_to_its_end(
    page: str,
    mapped: Callable[[str], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(metered_energy, "RaplMeter", _Meter)
    quick = functools.partial(metered_energy.measure_energy, seconds=1e-3, sleep=lambda _: None)
    monkeypatch.setattr(metered_energy, "measure_energy", quick)
    # docs/config.md: a checkpoint as akamaster/pytorch_resnet_cifar10 writes it.
    state = {f"module.{name}": tensor for name, tensor in resnet("resnet20").state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "resnet20.th")
    names = GIVEN.get(page, lambda _: {})(mapped)
    for block in _blocks(ROOT / page, "python"):
        exec(compile(block, page, "exec"), names)
    if page == "docs/config.md":
        assert load_file("resnet20.safetensors").keys() == resnet("resnet20").state_dict().keys()


def test_the_python_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "digits.yaml").write_text(_SMALL)
    monkeypatch.chdir(tmp_path)
    on_a_bundle, from_python = _blocks(ROOT / "README.md", "python")
    names: dict[str, Any] = {}
    exec(compile(from_python, "README.md", "exec"), names)
    keys = [member.key for member in names["result"].front.members]
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == keys
    assert names["folder"].resolve() == (tmp_path / "runs/digits/bundles" / keys[0]).resolve()
    image = torch.rand(1, 1, 8, 8)
    shutil.copy(names["folder"] / "model.onnx", tmp_path)
    exec(compile(on_a_bundle, "README.md", "exec"), names)
    with torch.no_grad():
        assert names["model"](image).shape == names["logits"].shape == (1, 10)
        ours = names["model"](torch.zeros(1, 1, 8, 8)).numpy()
    assert names["logits"] == pytest.approx(ours, abs=1e-4)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the files that configs on the pages name."""
    (tmp_path / "my_project").mkdir()
    for name in ("trained", "half", "resnet20", "resnet56"):
        save_file({"weight": torch.zeros(1)}, tmp_path / f"{name}.safetensors")
    for device in ("my_board", "mine"):
        shipped = ROOT / "hardware_models" / "devices" / "rpi5-a76-ort.yaml"
        text = shipped.read_text().replace("name: rpi5-a76-ort", f"name: {device}", 1)
        (tmp_path / f"{device}.yaml").write_text(text)
    (tmp_path / "board.calibration.json").write_text("{}")
    for folder in ("banking", "rows"):
        (tmp_path / folder).mkdir()
    return tmp_path


def _whole(part: dict[str, Any]) -> dict[str, Any]:
    """A config around sections that a page shows alone."""
    if "rules" in part:
        part = {"space": part}
    base = {"task": {"name": "digits"}, "goals": [{"metric": "accuracy"}, {"metric": "macs"}]}
    return base | part


@pytest.mark.parametrize("page", _pages_with("yaml"))
def test_configs_on_a_page_are_accepted(page: str, project: Path) -> None:
    sections: dict[str, Any] = {}
    for number, block in enumerate(_blocks(ROOT / page, "yaml")):
        part = yaml.safe_load(block)
        if page == "docs/own_model.md":  # one config, shown part by part
            sections |= part
            if "goals" not in sections:
                sections["goals"] = [
                    {"metric": "within_tolerance", "direction": "maximize"},
                    {"metric": "onnx_bytes"},
                ]
            part = sections
        path = project / f"block{number}.yaml"
        path.write_text(yaml.safe_dump(_whole(part)))
        config = load_config(path)
        for key in part:
            assert key in config.model_fields_set or key == "rules"


def _command_lines() -> list[tuple[str, str]]:
    """(page, command) for each command of paredown in blocks, tables and lines set as code."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        plain = _BLOCK.sub("", text)
        lines = re.findall(r"`(paredown [^`]+)`", plain)
        lines += re.findall(r"^ {4}(paredown .+)$", plain, re.MULTILINE)
        for block in _blocks(page, "sh"):
            lines += [line for line in block.splitlines() if line.startswith("paredown ")]
        found += [(_name(page), line) for line in dict.fromkeys(lines)]
    return found


@pytest.mark.parametrize(("page", "line"), _command_lines())
def test_commands_on_a_page_are_commands(page: str, line: str) -> None:
    words = shlex.split(line.replace("...", ""), comments=True)
    for mark in (">", "&&"):
        words = words[: words.index(mark)] if mark in words else words
    # As tables write them: [what may be left out].
    words = [word for word in (each.strip("[]") for each in words) if word]
    root = typer.main.get_command(app)
    commands = root.commands
    name, *arguments = words[1:]
    if name == "COMMAND":
        return
    if name.startswith("-"):
        assert name in {option for parameter in root.params for option in parameter.opts}
        return
    assert name in commands, f"{page}: there is no command {name!r}"
    options = {option for parameter in commands[name].params for option in parameter.opts}
    options |= {"--help"}
    assert {word for word in arguments if word.startswith("--")} <= options, f"{page}: {line}"
