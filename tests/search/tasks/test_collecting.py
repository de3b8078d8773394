"""Statistics are collected once, by whoever needs them first, and only then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from paredown.compressors.statistics.calibration import calibrate
from paredown.search.config.reading import load_config
from paredown.search.evaluating.surveying import survey
from paredown.search.evaluating.workbench import prepare
from paredown.search.tasks import collecting

CONFIG = """
task: {name: digits, calibration_images: 48}
space:
  architectures: {large: {}, small: {kwargs: {inner: 16}}}
  rules: [RULE]
hardware: {latency: roofline, device: x86-avx512-vnni-ort}
goals: [{metric: accuracy}, {metric: onnx_bytes}]
search: {engine: local}
"""
BITS = '{layers: "*", weight_bits: [4, 32]}'
ERRORS = '{layers: "linear", rank_error: [0.3]}'


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Weights of each network whose statistics are asked for, as they are."""
    seen: list[int] = []

    def counted(graph: Any, tensors: Any, *rest: Any, **named: Any) -> Any:
        seen.append(sum(t.numel() for t in tensors.values()))
        return calibrate(graph, tensors, *rest, **named)

    monkeypatch.setattr(collecting, "calibrate", counted)
    return seen


def test_surveying_collects_only_where_ranks_are_asked_for_by_error(
    collected: list[int], tmp_path: Path
) -> None:
    path = tmp_path / "two.yaml"
    path.write_text(CONFIG.replace("RULE", BITS))
    surveyed = survey(load_config(path))
    assert not collected
    assert surveyed.collected.of("small") is surveyed.collected.of("small")
    assert len(collected) == 1
    path.write_text(CONFIG.replace("RULE", f"{BITS}, {ERRORS}"))
    survey(load_config(path))
    assert len(collected) == 3


def test_a_search_works_with_the_statistics_that_its_ranks_were_found_from(
    collected: list[int], tmp_path: Path
) -> None:
    path = tmp_path / "two.yaml"
    path.write_text(CONFIG.replace("RULE", f"{BITS}, {ERRORS}"))
    workbench = prepare(load_config(path))
    assert len(collected) == len(set(collected)) == 2
    again = survey(load_config(path))
    for name, database in workbench.databases.items():
        mine, theirs = database.statistics, again.collected.of(name).statistics
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[n].gram, theirs[n].gram) for n in mine)
