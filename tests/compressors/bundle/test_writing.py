"""A bundle comes back as written, runs without its training code, and is never half there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from paredown.compressors.bundle import writing as bundle_module
from paredown.compressors.bundle.loading import BundleError, load, load_model
from paredown.compressors.bundle.writing import write_bundle
from paredown.compressors.models.codes import fit_biases
from paredown.compressors.onnx.sizes import onnx_file_bytes, packed_file_bytes
from paredown.spaces.candidates.candidate import Candidate, LayerChoice
from paredown.spaces.system.sealed import read_sealed

CANDIDATE = Candidate.of(layers={"linear": LayerChoice(weight_bits=8)})
CARD = {"accuracy": 0.91, "predicted": {"latency_s": 0.00123}, "device": "a|b"}


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x + 1, x * 2


def card_in(folder: Path) -> dict[str, object]:
    return read_sealed(folder / "card.json", needs_digest=True)


def test_a_bundle_holds_what_was_written(
    tmp_path: Path, resnet_model, with_weights, with_codes
) -> None:
    x = torch.randn(2, 3, 32, 32)
    model = fit_biases(with_codes(with_weights(resnet_model, 8, "int8"), x))
    folder = write_bundle(tmp_path / "deep" / "best", model, CANDIDATE, CARD)
    assert Candidate.from_json(json.loads((folder / "candidate.json").read_text())) == CANDIDATE
    assert card_in(folder) == CARD
    read = load_model(folder)
    assert read.blueprint == model.blueprint
    assert torch.equal(read([x])[0], model([x])[0])
    assert (folder / "model.onnx").stat().st_size == onnx_file_bytes(model.blueprint)
    packed = (folder / "model.safetensors").stat().st_size
    assert packed == packed_file_bytes(model.blueprint)
    assert [p.name for p in folder.parent.iterdir()] == ["best"]


def test_the_readme_states_figures_and_its_code_runs(
    tmp_path: Path, resnet_model, monkeypatch
) -> None:
    folder = write_bundle(tmp_path / "b", resnet_model, CANDIDATE, CARD)
    text = (folder / "README.md").read_text()
    assert "| predicted.latency_s | 0.00123 |" in text
    assert r"a\|b" in text
    monkeypatch.chdir(folder)
    scope: dict[str, object] = {}
    exec(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0], scope)
    assert scope["outputs"][0].shape == (2, 10)


def test_a_failing_export_leaves_the_old_bundle_whole(
    tmp_path: Path, identity, monkeypatch
) -> None:
    x = torch.randn(2, 5)
    model = identity(Pair(), x)
    folder = write_bundle(tmp_path / "b", model, CANDIDATE, CARD)

    def fail(*_: object) -> None:
        raise RuntimeError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(bundle_module, "write_packed", fail)
        with pytest.raises(RuntimeError, match="disk full"):
            write_bundle(folder, model, CANDIDATE, {"accuracy": 0.5})
    assert card_in(folder) == CARD
    write_bundle(folder, model, CANDIDATE, {"accuracy": 0.5})
    assert card_in(folder) == {"accuracy": 0.5}
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_a_folder_that_is_no_bundle_is_neither_read_nor_replaced(tmp_path: Path, identity) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(BundleError, match="not empty"):
        write_bundle(tmp_path, identity(Pair(), torch.randn(2, 5)), CANDIDATE, CARD)
    with pytest.raises(BundleError, match=r"must hold graph\.json"):
        load(tmp_path)
