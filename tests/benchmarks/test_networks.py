"""Networks that others trained: rebuilt as published, and one of them searched, exported and verified."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from paredown.search.config import load_config
from paredown.search.running import run
from paredown.search.study import reference
from paredown.search.tasks import Task, forward, load_task

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("PAREDOWN_DATA", ROOT.parent / "shared" / "data"))
NETWORKS = ROOT / "benchmarks" / "networks"
pytestmark = pytest.mark.skipif(
    not (DATA / "nets").is_dir(), reason=f"PAREDOWN_DATA: {DATA} has no folder nets"
)
PUBLISHED = {
    "keyword_lstm_s": ("accuracy", 0.9033, 5e-5),
    "keyword_lstm_m": ("accuracy", 0.9267, 5e-5),
    "keyword_gru": ("accuracy", 0.9167, 5e-5),
    "keyword_cnn": ("accuracy", 0.9167, 5e-5),
    "lenet": ("accuracy", 0.9907, 2e-3),  # of all 10,000 digits; here of every second
    "vae": ("nats", 94.92, 0.5),
}
"""Measured by those who converted the networks, on the final split or all of it."""


@pytest.fixture(autouse=True)
def _data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAREDOWN_DATA", str(DATA))


def _quality(task: Task) -> float:
    tally = task.metric.tally()
    for inputs, targets in task.splits.open_test().batches(100):
        with torch.no_grad():
            tally.add(task.form.tensors(forward(task.module, inputs, "task.model")), targets)
    return tally.value()


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_network_is_as_good_as_published(name: str) -> None:
    metric, published, tolerance = PUBLISHED[name]
    task = load_task(load_config(NETWORKS / f"{name}.yaml"))
    assert task.metric.name == metric
    assert _quality(task) == pytest.approx(published, abs=tolerance)


def test_a_keyword_lstm_is_searched_exported_and_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(
        load_config(NETWORKS / "keyword_lstm_s.yaml", ["search.evaluations=6"]),
    )
    assert len({each.key for each in result.evaluations}) >= 6
    assert {check.verdict for check in result.bundles} == {"verified"}
    published = PUBLISHED["keyword_lstm_s"][1]
    for check in result.bundles:
        assert check.measured["uncompressed_test_accuracy"] == pytest.approx(published, abs=5e-5)
        assert check.measured["onnx_bytes"] == check.predicted["onnx_bytes"]
    four_bits = reference(result.evaluations, "uniform 4-bit")
    assert four_bits is not None
    # Eight codes a float would take; scales, biases and the graph are on top.
    assert 6 < result.evaluations[0].metrics["onnx_bytes"] / four_bits.metrics["onnx_bytes"] < 8
