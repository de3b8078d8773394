"""A chain follows from shape and choice, is smaller than the layer, and computes what it stands for."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from paredown.compressors.low_rank.factorizing import compose
from paredown.spaces.candidates.candidate import Candidate, LayerChoice
from paredown.spaces.candidates.drafting import draft
from paredown.spaces.candidates.factors import (
    chain_at,
    factor_chain,
    form_of,
    full_ranks,
    inner_node,
    outer_node,
    weight_count,
    weights_at,
)
from paredown.spaces.candidates.ranks import Decomposition, Rank
from paredown.spaces.graph.graph import run
from paredown.spaces.structure.model_map import Layer

FORMS: tuple[Decomposition, ...] = get_args(Decomposition)


def layer_of(shape: tuple[int, ...], kind: str = "conv2d", groups: int = 1) -> Layer:
    return Layer(
        name="conv", nodes=("conv2d",), kind=kind, weight="conv.weight", bias=None,
        weight_shape=shape, out_axis=0, in_axis=1, groups=groups, macs=0,
    )  # fmt: skip


def shapes(shape: tuple[int, ...], fraction: float, form: Decomposition) -> list[tuple[int, ...]]:
    return [link.shape for link in factor_chain(layer_of(shape), shape, Rank(fraction, form))]


def test_shapes_of_each_form() -> None:
    shape = (64, 32, 3, 5)
    assert shapes(shape, 0.25, "channel") == [(16, 32, 3, 5), (64, 16, 1, 1)]
    # A quarter of min(32 * 3, 64 * 5).
    assert shapes(shape, 0.25, "spatial") == [(24, 32, 3, 1), (64, 24, 1, 5)]
    assert shapes(shape, 0.25, "tucker") == [(8, 32, 1, 1), (16, 8, 3, 5), (64, 16, 1, 1)]


def test_the_second_rank_has_a_share_of_its_own_where_there_are_two() -> None:
    shape = (64, 32, 3, 5)
    layer = layer_of(shape)
    tucker = factor_chain(layer, shape, Rank(0.25, "tucker", 0.5))
    assert [link.shape for link in tucker] == [(8, 32, 1, 1), (32, 8, 3, 5), (64, 32, 1, 1)]
    assert factor_chain(layer, shape, Rank(0.25, "tucker", 0.25)) == factor_chain(
        layer, shape, Rank(0.25, "tucker")
    )
    for form in ("channel", "spatial"):
        assert factor_chain(layer, shape, Rank(0.25, form, 0.5)) == factor_chain(
            layer, shape, Rank(0.25, form)
        )
    choice = LayerChoice(rank=Rank(0.25, "tucker", 0.5))
    assert factor_chain(layer, shape, choice.rank) == tucker


@given(
    shape=st.tuples(*(st.integers(2, size) for size in (70, 70, 4, 4))),
    form=st.sampled_from(FORMS),
    data=st.data(),
)
def test_shares_of_full_ranks_give_those_ranks_back(shape, form, data) -> None:
    fulls = full_ranks(form, shape)
    ranks = [data.draw(st.integers(1, full)) for full in fulls]
    shares = [rank / full for rank, full in zip(ranks, fulls, strict=True)]
    chain = factor_chain(layer_of(shape), shape, Rank(shares[0], form, shares[-1]))
    asked = chain_at(form, shape, ranks)
    if shares[0] < 1 and weight_count(asked) < math.prod(shape):
        assert chain == asked
    if form != "tucker" or ranks[1] <= ranks[0] * math.prod(shape[2:]):
        assert weights_at(form, shape, *ranks) == weight_count(asked)


def test_a_form_that_the_kernel_does_not_allow_is_the_pair_of_channels() -> None:
    forms = {
        (8, 8, 3, 3): ("channel", "spatial", "tucker"),
        (8, 8, 1, 3): ("channel", "channel", "tucker"),
        (8, 8, 1, 1): ("channel", "channel", "channel"),
    }
    for shape, found in forms.items():
        assert tuple(form_of(layer_of(shape), form) for form in FORMS) == found
    linear = layer_of((8, 8), kind="linear")
    assert {form_of(linear, form) for form in FORMS} == {"channel"}


@pytest.mark.parametrize("form", FORMS)
def test_layers_stay_whole_where_factors_would_not_be_smaller(form: Decomposition) -> None:
    shape = (16, 16, 3, 3)
    depthwise = layer_of((16, 1, 3, 3), groups=16)
    transposed = layer_of(shape, kind="conv_transpose2d")
    for layer, fraction in ((depthwise, 0.1), (transposed, 0.1), (layer_of(shape), 1.0)):
        (only,) = factor_chain(layer, layer.weight_shape, Rank(fraction, form))
        assert only.shape == layer.weight_shape
    linear = layer_of((10, 10), kind="linear")
    ranks = [factor_chain(linear, (10, 10), Rank(f, form))[0].shape[0] for f in (0.5, 0.4, 0.01)]
    assert ranks == [10, 4, 1]


@settings(max_examples=200, deadline=None)
@given(
    shape=st.tuples(*(st.integers(1, size) for size in (70, 70, 5, 5))),
    fraction=st.floats(0.01, 1.0),
    form=st.sampled_from(FORMS),
)
def test_chains_fit_together_and_hold_fewer_weights(shape, fraction, form) -> None:
    chain = factor_chain(layer_of(shape), shape, Rank(fraction, form))
    assert chain[0].shape[1] == shape[1]
    assert chain[-1].shape[0] == shape[0]
    for link, following in pairwise(chain):
        assert following.shape[1] == link.shape[0]
    # Together they span the kernel, and each axis is worked along once.
    kernels = zip(*(link.shape[2:] for link in chain), strict=True)
    assert tuple(math.prod(sizes) for sizes in kernels) == shape[2:]
    assert sorted(axis for link in chain for axis in link.axes) == [0, 1]
    assert len(chain) == 1 or weight_count(chain) < math.prod(shape)
    assert len(chain) <= (3 if form == "tucker" else 2)


def test_inner_values_belong_to_their_node() -> None:
    assert [outer_node(inner_node("conv", index)) for index in range(3)] == ["conv"] * 3
    assert len({inner_node("conv", index) for index in range(3)}) == 3
    assert outer_node("conv.inner.weight") == "conv.inner.weight"


class Convolution(nn.Module):
    def __init__(self, kernel: tuple[int, int], **window: object) -> None:
        super().__init__()
        self.conv = nn.Conv2d(5, 7, kernel, **window)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x))


WINDOWS = {
    "plain": ((3, 3), {}),
    "strided": ((3, 2), {"stride": (2, 3), "padding": (1, 0), "bias": False}),
    "dilated": ((2, 4), {"dilation": (3, 2), "padding": (3, 4), "stride": 2}),
    "same": ((4, 3), {"padding": "same", "dilation": (1, 2)}),
    "valid": ((3, 3), {"padding": "valid", "stride": (1, 2)}),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("window", WINDOWS)
def test_the_operators_of_a_chain_are_the_convolution_that_they_compose_to(
    form: Decomposition, window: str, read
) -> None:
    torch.manual_seed(0)
    kernel, given_window = WINDOWS[window]
    module = Convolution(kernel, **given_window)
    x = torch.randn(2, 5, 13, 17)
    model_map = read(module, x[:1])
    (layer,) = model_map.layers
    choice = LayerChoice(rank=Rank(0.3, form))
    blueprint = draft(model_map, Candidate.of(layers={"conv": choice}))
    weights = {
        op.weight: torch.randn(blueprint.storage[op.weight].shape) for op in blueprint.operators
    }
    assert len(weights) == (3 if form == "tucker" else 2)

    measured = {}
    tensors = {
        **weights,
        **({} if layer.bias is None else {layer.bias: module.conv.bias.detach()}),
    }
    (found,) = run(
        blueprint.graph, tensors, [x],
        after=lambda node, _, output: measured.setdefault(node.name, output),
    )  # fmt: skip
    with torch.no_grad():
        matrix = compose([w.double().flatten(1) for w in weights.values()])
        module.conv.weight.copy_(matrix.reshape(layer.weight_shape))
        expected = module(x)
    assert torch.allclose(found, expected, atol=1e-4 * float(expected.abs().max()))
    for node in blueprint.graph.nodes:
        assert node.shape[1:] == tuple(measured[node.name].shape)[1:]
