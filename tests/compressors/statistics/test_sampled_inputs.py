from __future__ import annotations

import pytest
import torch
from torch import Tensor

from paredown.compressors.matrix.algebra import (
    centred_gram,
    damage,
    gram_diagonal,
    gram_of_columns,
    is_root,
    row_errors,
    times_gram,
)
from paredown.compressors.statistics import sampled_inputs
from paredown.compressors.statistics.sampled_inputs import SampledInputs


def _fed(inputs: Tensor, chunk: int) -> SampledInputs:
    sampled = SampledInputs()
    for part in inputs.split(chunk):
        sampled.add(part.t())
    return sampled


@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_few_positions_are_all_kept_and_every_product_is_exact(chunk: int) -> None:
    inputs = torch.randn(60, 90).relu()
    root = _fed(inputs, chunk).root()
    wide = inputs.double()
    gram, mean = wide.t() @ wide / 60, wide.mean(dim=0)
    weight, curvature = torch.randn(5, 90).double(), torch.rand(5).double()
    centred, expected = centred_gram(root, mean), centred_gram(gram, mean)
    assert is_root(root)
    assert not is_root(gram)
    for own, whole in ((root, gram), (centred, expected)):
        assert torch.allclose(times_gram(weight, own), times_gram(weight, whole))
        assert torch.allclose(row_errors(weight, own), row_errors(weight, whole))
        assert torch.allclose(gram_diagonal(own, 5), gram_diagonal(whole, 5))
        assert damage(weight, own, curvature) == pytest.approx(damage(weight, whole, curvature))


def test_an_input_that_never_changes_is_dead_about_the_mean() -> None:
    inputs = torch.randn(20, 30)
    inputs[:, 4] = 3.0
    centred = centred_gram(_fed(inputs, 20).root(), inputs.double().mean(dim=0))
    assert (centred[:, 4] == 0).all()
    assert (centred[:, 5] != 0).any()


@pytest.mark.parametrize("chunk", [1, 6, 50, 1000])
def test_of_many_positions_every_so_many_is_kept(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampled_inputs, "_MOST_ROWS", 16)
    inputs = torch.arange(200.0).unsqueeze(1).expand(-1, 3)
    sampled = _fed(inputs, chunk)
    kept = [int(row[0]) for row in sampled.kept]
    assert kept == list(range(0, 200, sampled.stride))
    assert 8 <= len(kept) <= 16
    assert sampled.stride == 16


def test_the_energy_of_outputs_is_missed_by_what_so_many_positions_miss() -> None:
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(600, 600, generator=generator)
    inputs = (torch.randn(6000, 600, generator=generator) @ mix).relu()
    weight = torch.randn(200, 600, generator=generator).double()
    root = _fed(inputs, 500).root()
    wide = inputs.double()
    centred = centred_gram(root, wide.mean(dim=0))
    whole = centred_gram(wide.t() @ wide / 6000, wide.mean(dim=0))
    missed = row_errors(weight, centred) / row_errors(weight, whole) - 1
    share = (2 / len(root)) ** 0.5
    assert missed.square().mean().sqrt() == pytest.approx(share, rel=0.3)
    assert abs(float(missed.mean())) < share / 2


def test_columns_of_a_root_are_a_root_as_long_as_they_are_more_than_its_rows() -> None:
    root = torch.randn(10, 40).double()
    gram = root.t() @ root
    for count in (25, 10, 4):
        columns = torch.randperm(40)[:count]
        part = gram_of_columns(root, columns)
        assert is_root(part) == (count > 10)
        matrix = torch.randn(3, count).double()
        assert torch.allclose(times_gram(matrix, part), matrix @ gram[columns][:, columns])
        assert torch.allclose(gram_of_columns(gram, columns), gram[columns][:, columns])
