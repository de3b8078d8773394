from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from paredown.compressors.matrix.algebra import DAMPING, row_errors
from paredown.compressors.pruning import narrow as module
from paredown.compressors.pruning.narrow import (
    channel_order,
    in_units_of_loss,
    refit_columns,
)


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


def _one_by_one(consumers: Sequence[tuple[Tensor, Tensor, Tensor]]) -> list[int]:
    """Channels in the order that they go in: each time the one whose refit loses least."""
    left = list(range(len(consumers[0][2])))
    gone: list[int] = []
    while left:
        losses = [
            sum(_lost(consumer, [c for c in left if c != channel]) for consumer in consumers)
            for channel in left
        ]
        gone.append(left.pop(min(range(len(left)), key=losses.__getitem__)))
    return gone


def _lost(consumer: tuple[Tensor, Tensor, Tensor], kept_channels: list[int]) -> float:
    """Damped error of the best weights on these channels: w_T [H^-1]_TT^-1 w_T of those that go."""
    weight, gram, columns = consumer
    count = len(gram)
    damped = gram + DAMPING * gram.diagonal().mean() * torch.eye(count, dtype=gram.dtype)
    gone = [c for c in range(len(columns)) if c not in kept_channels]
    own = columns[gone].flatten()
    parts = weight.double()[:, own]
    block = torch.linalg.inv(damped)[own][:, own]
    return float((parts * torch.linalg.solve(block, parts.t()).t()).sum())


@pytest.mark.parametrize(("channels", "each"), [(20, 1), (12, 3)])
def test_the_order_is_that_of_one_channel_at_a_time(
    make_problem: Callable[..., Any], channels: int, each: int
) -> None:
    columns = _columns(channels, each)
    consumers = [(*make_problem(seed, 7, channels * each, 200), columns) for seed in (0, 1)]
    assert channel_order(consumers).tolist() == _one_by_one(consumers)[::-1]


def _greedy(weight: Tensor, gram: Tensor) -> list[int]:
    """As `_one_by_one` for channels of one column, with the textbook's downdates in float64."""
    damped = gram + DAMPING * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    inverse, weight = torch.linalg.inv(damped), weight.double().clone()
    is_gone = torch.zeros(len(gram), dtype=torch.bool)
    gone: list[int] = []
    for _ in range(len(gram)):
        diagonal = torch.where(is_gone, 1.0, inverse.diagonal())
        scores = (weight.square().sum(dim=0) / diagonal).masked_fill(is_gone, torch.inf)
        gone.append(chosen := int(scores.argmin()))
        row = inverse[chosen] / inverse[chosen, chosen]
        weight -= weight[:, chosen : chosen + 1] * row
        inverse -= torch.outer(inverse[:, chosen], row)
        is_gone[chosen] = True
    return gone


@pytest.mark.parametrize("share", [0.75, 0.5, 0.25])
def test_batches_lose_hardly_more_than_one_channel_at_a_time(
    make_problem: Callable[..., Any], share: float
) -> None:
    # More channels than are ever compared at once, and twins, of which a batch must not take both.
    weight, gram = make_problem(7, 40, 400, 900)
    doubled = torch.arange(400).remainder(320)
    gram, weight = gram[doubled][:, doubled], weight[:, doubled]
    gram += 1e-3 * gram.diagonal().mean() * torch.eye(400, dtype=gram.dtype)
    columns = _columns(400, 1)
    kept = int(share * 400)
    orders = (channel_order([(weight, gram, columns)]).tolist(), _greedy(weight, gram)[::-1])
    errors = [
        _error(
            weight, gram, chosen := torch.tensor(order[:kept]), refit_columns(weight, gram, chosen)
        )
        for order in orders
    ]
    assert errors[0] <= 1.02 * errors[1]


def test_inputs_that_never_change_go_first_whatever_their_weights(
    make_problem: Callable[..., Any],
) -> None:
    weight, gram = make_problem(5, 4, 8, 100)
    gram[2], gram[:, 2] = 0.0, 0.0
    weight[:, 2] = 1000.0
    assert int(channel_order([(weight, gram, _columns(8, 1))])[-1]) == 2


def test_channels_of_another_group_make_up_for_those_that_go(
    make_problem: Callable[..., Any],
) -> None:
    # Columns 0 to 4 are the group's; 5 is another's, and gives what 2 gives.
    weight, gram = make_problem(9, 6, 6, 300)
    gram[5], gram[:, 5] = gram[2], gram[:, 2]
    gram[5, 5] = gram[2, 2]
    gram += 1e-6 * torch.eye(6, dtype=gram.dtype)
    assert int(channel_order([(weight, gram, _columns(5, 1))])[-1]) == 2


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


def _rooted(seed: int) -> tuple[Tensor, Tensor]:
    """A weight (6, 60) and a root (40, 60): twelve channels of five columns, two of them twins."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(40, 12, 5, generator=generator, dtype=torch.float64)
    inputs *= torch.rand(12, 1, generator=generator, dtype=torch.float64) + 0.2
    weight = torch.randn(6, 12, 5, generator=generator)
    inputs[:, 7], weight[:, 7] = inputs[:, 3], weight[:, 3]
    return weight.flatten(1), inputs.flatten(1) / 40**0.5


def test_a_refit_under_a_root_is_the_ridge_of_its_gram() -> None:
    weight, root = _rooted(0)
    kept = torch.arange(60)[:45]
    found = refit_columns(weight, root, kept)
    own, rest = root[:, :45], root[:, 45:]
    ridge = DAMPING * float((own @ own.t()).diagonal().mean()) * torch.eye(45).double()
    change = weight[:, 45:].double() @ rest.t() @ own @ torch.linalg.inv(own.t() @ own + ridge)
    assert torch.allclose(found.double(), weight[:, :45] + change, atol=1e-5)
    gram = root.t() @ root
    assert _error(weight, gram, kept, found) < _error(weight, gram, kept, weight[:, :45])


def test_channels_under_a_root_go_by_what_they_give_to_the_outputs() -> None:
    weight, root = _rooted(1)
    gram, columns = root.t() @ root, _columns(12, 5)
    order = channel_order([(weight, root, columns)])
    assert sorted(order.tolist()) == list(range(12))
    # Of twins the second is free, for the first one can do the work of both.
    assert int(order[-1]) in (3, 7)
    kept = columns[order[:6]].flatten()
    chosen = _error(weight, gram, kept, refit_columns(weight, root, kept))
    others = []
    for seed in range(20):
        drawn = torch.randperm(12, generator=torch.Generator().manual_seed(seed))[:6]
        rest = columns[drawn].flatten()
        others.append(_error(weight, gram, rest, refit_columns(weight, root, rest)))
    assert chosen < sorted(others)[2]


def test_weights_in_units_of_the_loss_have_its_curvature_as_their_mean_squares() -> None:
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(8, 5, generator=generator)
    gradients = torch.randn(30, 8, generator=generator).double()
    gradients[:, 3] = 0.0
    curvature = gradients.t() @ gradients / 30
    found = in_units_of_loss(weight, curvature)
    expected = weight.double().t() @ curvature @ weight.double()
    assert torch.allclose(found.t() @ found, expected, rtol=1e-4, atol=1e-5)
    diagonal = in_units_of_loss(weight, curvature.diagonal())
    apart = weight.double().t() @ torch.diag(curvature.diagonal()) @ weight.double()
    assert torch.allclose(diagonal.t() @ diagonal, apart)
    assert torch.equal(in_units_of_loss(weight, None), weight.double())


def test_random_sums_stand_for_the_rows_of_a_large_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.randn(500, 12, generator=torch.Generator().manual_seed(3))
    monkeypatch.setattr(module, "_MOST_VALUES", 1000)
    found = in_units_of_loss(weight, None)
    assert found.shape == (64, 12)
    ratio = found.square().sum(dim=0) / weight.double().square().sum(dim=0)
    assert ratio.mean() == pytest.approx(1.0, abs=0.15)
