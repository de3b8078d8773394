"""The workspace of one layer: what its choices share is made once, and only for it."""

from __future__ import annotations

import pickle

import pytest
import torch

from paredown.compressors.layers import narrowed as module
from paredown.compressors.layers.database import Database
from paredown.compressors.layers.narrowed import NarrowedLayer, Narrowing
from paredown.compressors.matrix import gram as gram_module
from paredown.compressors.matrix.algebra import to_matrix
from paredown.spaces.candidates.candidate import LayerChoice
from paredown.spaces.candidates.factors import factor_chain
from paredown.spaces.candidates.ranks import Rank

WHOLE = Narrowing()


def _layer(mapped, database, name: str, narrowing: Narrowing = WHOLE) -> NarrowedLayer:
    base, layer = database("lenet"), mapped("lenet").layer_by_name[name]
    bias = None if layer.bias is None else base.tensors[layer.bias]
    weight, statistics = base.tensors[layer.weight], base.statistics[name]
    return NarrowedLayer.of(layer, weight, bias, statistics, narrowing)


def test_a_whole_layer_is_its_own_target(mapped, database) -> None:
    found = _layer(mapped, database, "fc2")
    base, layer = database("lenet"), mapped("lenet").layer_by_name["fc2"]
    assert torch.equal(found.matrix, to_matrix(base.tensors[layer.weight], layer))
    assert found.dense_target is found.problem.target
    mean, variance = found.dense_moments
    statistics = base.statistics["fc2"]
    assert torch.allclose(mean + base.tensors[layer.bias], statistics.output_mean, atol=1e-4)
    assert torch.allclose(variance.sqrt(), statistics.output_std, rtol=1e-3, atol=1e-5)


def test_narrowing_cuts_rows_and_refits_columns(mapped, database) -> None:
    rows, channels = torch.tensor([0, 2, 5]), torch.arange(0, 60, 2)
    found = _layer(mapped, database, "fc2", Narrowing(rows=rows, channels=channels))
    whole = _layer(mapped, database, "fc2")
    assert found.layer.weight_shape == (3, 30)
    assert torch.equal(found.dense, whole.dense[rows])
    assert torch.equal(found.columns, channels)
    assert torch.equal(found.bias, whole.bias[rows])
    assert not torch.equal(found.matrix, whole.dense[rows][:, channels])
    gram = whole.inputs.gram.values
    error, cut = (
        torch.zeros(3, whole.dense.shape[1]).double().index_copy(1, channels, matrix.double())
        - whole.dense[rows]
        for matrix in (found.matrix, whole.dense[rows][:, channels])
    )
    energy = [float(((change @ gram) * change).sum()) for change in (error, cut)]
    assert energy[0] < energy[1]


def test_choices_of_one_layer_share_roots_and_spectrum(mapped, database, monkeypatch) -> None:
    made: list[str] = []
    for place, name in ((gram_module, "_inverse_root"), (module, "spectrum_of")):
        plain = getattr(place, name)

        def counting(*arguments, plain=plain, name=name):
            made.append(name)
            return plain(*arguments)

        monkeypatch.setattr(place, name, counting)
    known, model_map = database("lenet"), mapped("lenet")
    base = Database(model_map, known.tensors, known.statistics, known.ranges)
    layer = model_map.layer_by_name["fc2"]
    for bits in (2, 3, 4):
        base.solution(layer, LayerChoice(weight_bits=bits, method="gptq"), {})
    assert made == ["_inverse_root"]
    for fraction in (0.25, 0.5):
        base.solution(layer, LayerChoice(rank=Rank(share=fraction)), {})
    assert made.count("spectrum_of") == 1
    again = pickle.loads(pickle.dumps(base))
    made.clear()
    again.solution(layer, LayerChoice(weight_bits=5, method="gptq"), {})
    assert made == ["_inverse_root"]


@pytest.mark.parametrize("fraction", [0.25, 0.5])
def test_factors_are_made_once_for_each_chain(mapped, database, fraction: float) -> None:
    found = _layer(mapped, database, "fc2")
    chain = factor_chain(found.layer, found.layer.weight_shape, Rank(share=fraction))
    first, second = found.factors(chain)
    assert found.factors(chain)[0] is first
    assert first.shape[0] == second.shape[1] == chain[0].shape[0]
