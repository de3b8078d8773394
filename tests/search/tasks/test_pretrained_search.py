"""`task: hf` from a folder of the library to verified folders: searched, exported, verified."""

from __future__ import annotations

import pytest

from paredown.compressors.bundle.loading import digest_of
from paredown.search.bundles.card import read_card
from paredown.search.config.reading import load_config
from paredown.search.report import Terminal
from paredown.search.running import deliver, run
from paredown.search.study import BUNDLES, UNIFORM_8_BIT, read_run

pytestmark = pytest.mark.models

CONFIG = """\
name: reviews
task:
  name: hf
  kind: text-classification
  model: ./model
  data: {train: ./rows.csv, search: ./rows.csv, test: ./rows.csv, max_length: 12}
  calibration_rows: 4
space:
  rules:
    - {layers: "*", weight_bits: [4, 8, 32]}
    - {segments: "*", activation_bits: [8, 32], ranges: [dynamic]}
hardware:
  latency: roofline
  axes: {batch: {price_at: 1}, time: {from: 4, to: 24, price_at: 12}}
goals: [{metric: accuracy}, {metric: latency_s}, {metric: onnx_bytes}]
search: {engine: local, workers: 1, evaluations: 3}
"""
OWN_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json")
"""Files of the model's folder that an exported folder keeps."""


@pytest.fixture
def checks(section, tmp_path, monkeypatch):
    """What verifying found: of the front, and of uniform 8 bits, whose ranges are found in the run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PAREDOWN_CACHE", str(tmp_path / "cache"))
    section("bert", "text-classification")
    (tmp_path / "reviews.yaml").write_text(CONFIG)
    result = run(load_config(tmp_path / "reviews.yaml"))
    record = read_run(result.folder)
    eight = next(e for e in record.evaluations if e.label == UNIFORM_8_BIT)
    found = {check.key: check for check in result.bundles}
    if eight.key not in found:
        more = deliver(record, [eight], result.folder / BUNDLES, Terminal(stderr=True))
        found |= {check.key: check for check in more}
    return found, eight.key


def test_a_folder_is_searched_exported_and_verified_with_its_own_files(checks, tmp_path):
    found, eight = checks
    assert len(found) > 1
    assert all(check.ok for check in found.values()), [c.mismatches for c in found.values()]
    assert {"DynamicQuantizeMatMul", "MatMulIntegerToFloat"} <= set(found[eight].kernels)
    for check in found.values():
        card = read_card(check.folder)
        for name in OWN_FILES:
            kept = (check.folder / name).read_bytes()
            assert kept == (tmp_path / "model" / name).read_bytes()
            assert card.files[name] == digest_of(check.folder / name)
