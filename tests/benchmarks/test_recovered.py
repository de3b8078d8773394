"""A keyword LSTM of 2 bits is trained, exported and verified by the benchmark of recovery."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import pytest

from paredown.compressors.bundle import load_model
from paredown.search.bundles import read_card

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("PAREDOWN_DATA", ROOT.parent / "shared" / "data"))
SCRIPT = ROOT / "benchmarks" / "training" / "recovered.py"


@pytest.mark.skipif(
    not (DATA / "nets").is_dir(), reason=f"PAREDOWN_DATA: {DATA} has no folder nets"
)
def test_training_lowers_the_loss_of_two_bits_and_keeps_what_the_file_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PAREDOWN_DATA", str(DATA))
    main = runpy.run_path(str(SCRIPT))["main"]
    given = ["keyword_lstm_s", "--steps", "60", "--threads", "1", "--out", str(tmp_path)]
    assert main(given) == 0
    printed = capsys.readouterr().out
    losses = [float(each) for each in _after(printed, "held-out loss:")[1::2]]
    assert min(losses[1:]) < losses[0]
    before, after = (_bundle_with_codes(tmp_path / part) for part in ("before", "after"))
    assert before.name == after.name
    assert (before / "model.onnx").stat().st_size == (after / "model.onnx").stat().st_size
    assert read_card(before).files != read_card(after).files
    stored = [load_model(folder).stored for folder in (before, after)]
    assert {n: t.storage for n, t in stored[0].items()} == {
        n: t.storage for n, t in stored[1].items()
    }
    assert {t.storage.bits for t in stored[1].values() if t.scale is not None} == {2}


def _after(printed: str, start: str) -> list[str]:
    line = next(line for line in printed.splitlines() if line.startswith(start))
    return line.removeprefix(start).replace(":", " ").split()


def _bundle_with_codes(folder: Path) -> Path:
    return next(
        path.parent
        for path in folder.glob("*/card.json")
        if any(t.scale is not None for t in load_model(path.parent).stored.values())
    )
