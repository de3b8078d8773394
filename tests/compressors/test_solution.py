"""A solution holds exactly what its choice asks for, in the shape the blueprint counts."""

from __future__ import annotations

import pytest
import torch

from paredown.compressors import joint
from paredown.compressors.database import Database
from paredown.compressors.matrix import row_errors, to_matrix
from paredown.spaces.candidate import IDENTITY_CHOICE, LayerChoice
from paredown.spaces.draft import kept_count
from paredown.spaces.factors import factor_chain

NAMES = ("lenet", "mobilenet_v2", "unet", "words")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", ["rtn", "gptq", "joint"])
@pytest.mark.parametrize(("sparsity", "pattern"), [(0.7, "element"), (0.5, "2:4")])
def test_masks_keep_exactly_what_is_counted(
    name, method, sparsity, pattern, mapped, database, monkeypatch
) -> None:
    # Zeros and codes change in every round of the joint method, and their count in none.
    monkeypatch.setattr(joint, "_SWEEPS", 2)
    known = database(name)
    fresh = Database(mapped(name), known.tensors, known.statistics, known.ranges)
    choice = LayerChoice(weight_bits=4, sparsity=sparsity, pattern=pattern, method=method)
    for layer in mapped(name).layers:
        (factor,) = fresh.solution(layer, choice, {}).factors
        assert int(factor.mask.sum()) == kept_count(layer, choice, layer.weight_shape)
        assert not factor.values[~factor.mask].any()


@pytest.mark.parametrize("name", NAMES)
def test_the_identity_is_the_layer_itself(name, mapped, database) -> None:
    for layer in mapped(name).layers:
        solution = database(name).solution(layer, IDENTITY_CHOICE, {})
        assert torch.equal(solution.factors[0].values, database(name).tensors[layer.weight])


def test_two_factors_multiply_to_the_matrix_and_lose_less_at_higher_rank(mapped, database) -> None:
    layer = mapped("lenet").layer_by_name["fc1"]
    base = database("lenet")
    gram = base.statistics["fc1"].gram
    dense = to_matrix(base.tensors[layer.weight], layer)
    errors = []
    for fraction in (0.1, 0.3, 0.45):
        solution = base.solution(layer, LayerChoice(rank_fraction=fraction), {})
        first, second = (factor.values for factor in solution.factors)
        assert first.shape == factor_chain(layer, layer.weight_shape, fraction, "channel")[0].shape
        assert torch.allclose(second @ first, solution.matrix, atol=1e-5)
        errors.append(float(row_errors(solution.matrix - dense, gram).sum()))
    assert errors == sorted(errors, reverse=True)


def test_moments_of_the_outputs_are_restored(mapped, database) -> None:
    layer = mapped("lenet").layer_by_name["fc2"]
    base = database("lenet")
    solution = base.solution(layer, LayerChoice(weight_bits=3), {})
    mean = solution.matrix.double() @ base.statistics["fc2"].input_mean + solution.bias
    assert torch.allclose(mean, base.statistics["fc2"].output_mean, atol=1e-5)
