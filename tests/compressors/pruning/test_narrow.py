from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from paredown.compressors.matrix.algebra import row_errors
from paredown.compressors.pruning.narrow import channel_order, refit_columns


def _columns(channels: int, each: int) -> Tensor:
    return torch.arange(channels * each).view(channels, each)


def _error(weight: Tensor, gram: Tensor, kept: Tensor, part: Tensor) -> float:
    whole = torch.zeros_like(weight)
    whole[:, kept] = part
    return float(row_errors(whole - weight, gram).sum())


@settings(max_examples=20, deadline=None)
@given(
    columns=st.integers(1, 40),
    samples=st.integers(1, 100),
    share=st.floats(0.1, 1.0),
    seed=st.integers(0, 10**6),
)
def test_a_refit_is_no_worse_than_a_slice(
    make_problem: Callable[..., Any], columns: int, samples: int, share: float, seed: int
) -> None:
    weight, gram = make_problem(seed, 5, columns, samples)
    kept = torch.randperm(columns)[: max(1, int(share * columns))]
    refit = refit_columns(weight, gram, kept)
    assert refit.shape == (5, len(kept))
    sliced = _error(weight, gram, kept, weight[:, kept])
    assert _error(weight, gram, kept, refit) <= sliced * (1 + 1e-5) + 1e-9


def test_greedy_removal_with_refit_beats_magnitude(make_problem: Callable[..., Any]) -> None:
    weight, gram = make_problem(3, 16, 64, 500)
    columns = _columns(16, 4)
    order = channel_order([(weight, gram, columns)])
    assert sorted(order.tolist()) == list(range(16))
    norms = weight[:, columns].square().sum(dim=(0, 2)).argsort(descending=True)
    errors = []
    for chosen in (order[:8], norms[:8]):
        kept = columns[chosen].flatten()
        errors.append(_error(weight, gram, kept, refit_columns(weight, gram, kept)))
    plain = columns[norms[:8]].flatten()
    assert errors[0] < errors[1] < _error(weight, gram, plain, weight[:, plain])


def test_of_two_equal_channels_one_goes_first_and_costs_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, 3, generator=generator, dtype=torch.float64)
    inputs = torch.cat([inputs, inputs[:, :1]], dim=1)
    weight = torch.tensor([[2.0, 1.5, 1.5, 2.0]])
    gram = inputs.t() @ inputs / 200
    order = channel_order([(weight, gram, _columns(4, 1))])
    assert int(order[-1]) in (0, 3)
    # The twin that is left carries both weights: it matters most.
    assert {int(order[-1]), int(order[0])} == {0, 3}


def test_a_channel_that_any_consumer_needs_stays(make_problem: Callable[..., Any]) -> None:
    _, gram = make_problem(4, 1, 6, 300)
    first, second = torch.zeros(2, 6), torch.zeros(3, 6)
    first[:, 1], second[:, 4] = 5.0, 5.0
    columns = _columns(6, 1)
    order = channel_order([(first, gram, columns), (second, gram, columns)])
    assert set(order[:2].tolist()) == {1, 4}


def test_dead_channels_go_first(make_problem: Callable[..., Any]) -> None:
    weight, gram = make_problem(5, 4, 8, 100)
    gram[2], gram[:, 2] = 0.0, 0.0
    weight[:, 2] = 0.01
    assert int(channel_order([(weight, gram, _columns(8, 1))])[-1]) == 2
