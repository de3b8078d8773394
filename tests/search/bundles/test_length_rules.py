"""A file that is right at the example's length alone is found at the ends of its range."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from paredown.compressors.onnx.lowering import lower
from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.storage.stored import StoredTensor
from paredown.search.bundles.length_rules import check_lengths
from paredown.search.bundles.rules import Findings
from paredown.search.tasks.splits import Split
from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.candidates.drafting import draft
from paredown.spaces.graph.capturing import capture
from paredown.spaces.structure.reading import read_model_map


class Mean(nn.Module):
    def __init__(self, count: int) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.sum(1) / (self.count or x.shape[1]))


def _model(count: int) -> CompressedModel:
    torch.manual_seed(0)
    captured = capture(Mean(count), torch.randn(2, 6, 3), lengths=(4, 9))
    stored = {name: StoredTensor.unchanged(t) for name, t in captured.tensors.items()}
    return CompressedModel(blueprint=draft(read_model_map(captured), Candidate()), stored=stored)


def _found(folder: Path, model: CompressedModel, written: CompressedModel) -> Findings:
    folder.joinpath("model.onnx").write_bytes(lower(written).SerializeToString())
    found = Findings(folder=folder, card={}, predicted={})
    check_lengths(model, Split(inputs=(torch.randn(5, 6, 3),), targets=torch.zeros(5)), found)
    return found


def test_both_ends_are_run(tmp_path: Path) -> None:
    assert _found(tmp_path, _model(0), _model(0)).mismatches == []


def test_a_file_for_one_length_is_found_out(tmp_path: Path) -> None:
    # It divides by six, the example's length.
    shorter, longer = _found(tmp_path, _model(0), _model(6)).mismatches
    assert shorter.startswith("lengths: outputs at length 4 are off by")
    assert longer.startswith("lengths: outputs at length 9 are off by")
