"""A solution holds exactly what its choice asks for, in the shape the blueprint counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from paredown.compressors.layers.database import Database
from paredown.compressors.layers.methods import Problem, compress
from paredown.compressors.low_rank.factorizing import compose, factorize
from paredown.compressors.matrix.algebra import centred_gram, row_errors, to_matrix
from paredown.compressors.pruning import joint
from paredown.compressors.rounding.target import Target
from paredown.spaces.candidates.candidate import IDENTITY_CHOICE, LayerChoice
from paredown.spaces.candidates.drafting import kept_count
from paredown.spaces.candidates.factors import factor_chain
from paredown.spaces.candidates.ranks import Rank
from paredown.spaces.candidates.zeros import Zeros

CODES = LayerChoice(weight_bits=3)
NAMES = ("lenet", "mobilenet_v2", "unet", "words")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", ["rtn", "gptq", "joint"])
@pytest.mark.parametrize(("sparsity", "pattern"), [(0.7, "element"), (0.5, "2:4"), (0.5, "block")])
def test_masks_keep_exactly_what_is_counted(
    name, method, sparsity, pattern, mapped, database, monkeypatch
) -> None:
    # Zeros and codes change in every round of the joint method, and their count in none.
    monkeypatch.setattr(joint, "_SWEEPS", 2)
    known = database(name)
    fresh = Database(mapped(name), known.tensors, known.statistics, known.ranges)
    choice = LayerChoice(weight_bits=4, zeros=Zeros(sparsity, pattern), method=method)
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
        solution = base.solution(layer, LayerChoice(rank=Rank(fraction)), {})
        first, second = (factor.values for factor in solution.factors)
        assert (
            first.shape
            == factor_chain(layer, layer.weight_shape, Rank(fraction, "channel"))[0].shape
        )
        assert torch.allclose(second @ first, solution.matrix, atol=1e-5)
        errors.append(float(row_errors(solution.matrix - dense, gram).sum()))
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("form", ["spatial", "tucker"])
@pytest.mark.parametrize("bits", [32, 4])
def test_a_chain_of_factors_runs_as_the_convolution_of_its_matrix(
    form, bits, mapped, database
) -> None:
    layer = mapped("lenet").layer_by_name["conv2"]
    base = database("lenet")
    zeros, rank = Zeros(0.3, "element"), Rank(0.3, form)
    choice = LayerChoice(weight_bits=bits, zeros=zeros, rank=rank, method="gptq")
    solution = base.solution(layer, choice, {})
    chain = factor_chain(layer, layer.weight_shape, Rank(0.3, form))
    assert [f.values.shape for f in solution.factors] == [link.shape for link in chain]
    assert len(solution.inner) == len(chain) - 1
    x = torch.randn(3, layer.weight_shape[1], 11, 12)
    found = x
    for factor in solution.factors:
        assert int(factor.mask.sum()) == kept_count(layer, choice, factor.values.shape)
        scale = 1 if factor.scale is None else factor.scale.view(-1, 1, 1, 1)
        found = F.conv2d(found, factor.values * scale)
    expected = F.conv2d(x, solution.matrix.reshape(layer.weight_shape))
    assert torch.allclose(found, expected, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("form", ["spatial", "tucker"])
def test_what_follows_makes_up_for_the_codes_of_a_factor(form, mapped, database) -> None:
    layer = mapped("lenet").layer_by_name["conv2"]
    base = database("lenet")
    statistics = base.statistics["conv2"]
    gram = centred_gram(statistics.gram, statistics.input_mean)
    dense = to_matrix(base.tensors[layer.weight], layer)
    chain = factor_chain(layer, layer.weight_shape, Rank(0.3, form))
    floats = factorize(dense, gram, chain)
    coded = [
        compress(
            Problem(target=Target.of(factor, torch.ones(factor.shape[1]).double())), CODES
        ).dense()
        for factor in floats
    ]
    choice = replace(CODES, rank=Rank(0.3, form))
    found = base.solution(layer, choice, {}).matrix

    def lost(matrix: Tensor) -> float:
        """With the best factor for each row: restored moments are not the nearest outputs."""
        along, square = ((matrix.double() @ gram * m).sum(1) for m in (dense, matrix))
        return float(row_errors(matrix * (along / square).unsqueeze(1) - dense, gram).sum())

    # What codes add to the loss of the ranks.
    ranks = lost(compose(floats))
    assert lost(found) - ranks < 0.9 * (lost(compose(coded)) - ranks)


def test_a_form_that_a_layer_does_not_have_is_its_pair(mapped, database) -> None:
    layer = mapped("lenet").layer_by_name["fc1"]
    choices = [LayerChoice(rank=Rank(0.2, f)) for f in ("channel", "tucker")]
    pair, other = (database("lenet").solution(layer, choice, {}) for choice in choices)
    assert pair.inner == other.inner
    assert torch.equal(pair.matrix, other.matrix)


def test_moments_of_the_outputs_are_restored(mapped, database) -> None:
    layer = mapped("lenet").layer_by_name["fc2"]
    base = database("lenet")
    solution = base.solution(layer, LayerChoice(weight_bits=3), {})
    mean = solution.matrix.double() @ base.statistics["fc2"].input_mean + solution.bias
    assert torch.allclose(mean, base.statistics["fc2"].output_mean, atol=1e-5)
