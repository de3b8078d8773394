"""Statistics are collected once for the same model and data, and come back as they were."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paredown.compressors.statistics import calibration
from paredown.compressors.statistics.calibration import Calibration, CalibrationData, calibrate
from paredown.compressors.statistics.drawn_labels import summed_cross_entropy
from paredown.compressors.statistics.layer_statistics import StatisticsError
from paredown.compressors.statistics.ranges import collect_ranges
from paredown.compressors.storage.shelf import Shelf


class Mixed(nn.Module):
    """A depthwise, a plain and a transposed convolution, an embedding and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(4, 4, 3, groups=4)
        self.up = nn.ConvTranspose2d(4, 3, 2)
        self.words = nn.Embedding(7, 3)
        self.head = nn.Linear(3, 5)

    def forward(self, image: Tensor, words: Tensor) -> Tensor:
        pixels = self.up(self.depthwise(image).relu()).mean(dim=(2, 3))
        return self.head(pixels + self.words(words).mean(dim=1))


@pytest.fixture
def case(capture_layers: Callable[..., Any]) -> tuple[Any, ...]:
    torch.manual_seed(0)
    example = (torch.zeros(1, 4, 5, 5), torch.zeros(1, 6, dtype=torch.int64))
    captured, layers = capture_layers(Mixed(), example)
    inputs = [torch.randn(8, 4, 5, 5), torch.randint(0, 7, (8, 6))]
    data = CalibrationData(
        batches=[inputs], targets=None, loss=summed_cross_entropy, loss_digest="ce", seed=0
    )
    return captured.graph, captured.tensors, layers, data


def same(a: Calibration, b: Calibration) -> bool:
    for name, one in a.statistics.items():
        for field in fields(one):
            x, y = getattr(one, field.name), getattr(b.statistics[name], field.name)
            equal = torch.equal(x, y) and x.dtype == y.dtype if isinstance(x, Tensor) else x == y
            if not equal:
                return False
    return a.statistics.keys() == b.statistics.keys() and a.ranges == b.ranges


def test_the_second_asker_reads_what_the_first_collected(case, tmp_path, monkeypatch) -> None:
    shelf = Shelf(tmp_path, 2**30)
    plain = calibrate(*case, None)
    assert same(calibrate(*case, shelf), plain)
    monkeypatch.setattr(calibration, "_collect", None)
    again = calibrate(*case, Shelf(tmp_path, 2**30))
    assert same(again, plain)
    for name, statistics in again.statistics.items():
        assert statistics.digest == plain.statistics[name].digest


def test_any_change_is_collected_anew(case, tmp_path) -> None:
    graph, tensors, layers, data = case
    shelf = Shelf(tmp_path, 2**30)
    name = next(iter(tensors))
    (image, words), words_changed = data.batches[0], data.batches[0][1].clone()
    words_changed[0, 0] = (words_changed[0, 0] + 1) % 7
    changed = [
        (graph, tensors | {name: tensors[name] * 1.001}, layers, data),
        (graph, tensors, layers[:-1], data),
        (graph, tensors, layers, replace(data, seed=1)),
        (graph, tensors, layers, replace(data, loss_digest="other")),
        (graph, tensors, layers, replace(data, batches=[[image * 2, words]])),
        (graph, tensors, layers, replace(data, batches=[[image, words_changed]])),
        (graph, tensors, layers, replace(data, targets=[torch.zeros(8, dtype=torch.int64)])),
        (graph, tensors, layers, replace(data, targets=[torch.ones(8, dtype=torch.int64)])),
    ]
    calibrate(*case, shelf)
    for count, other in enumerate(changed, start=2):
        calibrate(*other, shelf)
        assert len(list(tmp_path.iterdir())) == count


def test_a_damaged_file_is_collected_again(case, tmp_path, caplog) -> None:
    shelf = Shelf(tmp_path, 2**30)
    plain = calibrate(*case, shelf)
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    assert same(calibrate(*case, shelf), plain)
    assert "is damaged" in caplog.text


def test_no_batch_is_refused(case, tmp_path) -> None:
    graph, tensors, layers, data = case
    with pytest.raises(StatisticsError, match="at least one batch"):
        calibrate(graph, tensors, layers, replace(data, batches=[]), Shelf(tmp_path, 2**30))
    assert not list(tmp_path.iterdir())


def test_ranges_of_the_shared_pass_are_those_of_a_pass_of_their_own(case) -> None:
    graph, tensors, _, data = case
    assert calibrate(*case, None).ranges == collect_ranges(graph, tensors, data.batches)
