"""What `inspect` says the uncompressed model costs is what it costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from paredown.compressors.onnx.plan import ExportError
from paredown.search.evaluating import baseline
from paredown.search.evaluating.baseline import baseline_of
from paredown.search.evaluating.surveying import survey
from paredown.search.evaluating.workbench import Workbench


def test_costs_are_those_of_the_search_and_bytes_those_of_the_files(
    workbench: Workbench, bundles: dict[str, Path]
) -> None:
    found = baseline_of(survey(workbench.config))
    prices = workbench.price(workbench.uncompressed())

    assert dict(found.costs) == {name: prices[name] for name in found.costs}
    folder = bundles["uncompressed"]
    assert found.costs["onnx_bytes"] == (folder / "model.onnx").stat().st_size
    assert found.costs["packed_bytes"] == (folder / "model.safetensors").stat().st_size
    assert found.problem is None
    assert not found.is_preset


def test_a_model_that_cannot_be_exported_is_told_before_a_search(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> int:
        raise ExportError("aten.fft has no lowering")

    monkeypatch.setattr(baseline, "file_sizes", lambda: {"onnx_bytes": refuse})

    assert baseline_of(survey(workbench.config)).problem == "aten.fft has no lowering"
