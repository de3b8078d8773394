"""A Gram's factorizations are those of their definitions, and are made once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from paredown.compressors.matrix import gram as module
from paredown.compressors.matrix.gram import Gram, in_groups
from paredown.compressors.rounding.compensated import gptq
from paredown.compressors.rounding.target import Target


def _damped(gram: Tensor) -> Tensor:
    return gram + 0.01 * gram.diagonal().mean() * torch.eye(len(gram))


def test_the_root_is_that_of_the_damped_inverse(make_problem: Callable[..., Any]) -> None:
    _, gram = make_problem(6, 1, 7, 50)
    root = Gram(gram).inverse_root[0]
    assert torch.allclose(root.t() @ root @ _damped(gram), torch.eye(7).double(), atol=1e-8)
    assert torch.equal(root, root.triu())


def test_the_most_active_columns_come_first(make_problem: Callable[..., Any]) -> None:
    _, gram = make_problem(3, 1, 9, 60)
    order, root = Gram(gram).by_activity
    activity = gram.diagonal()[order[0]]
    assert torch.equal(activity, activity.sort(descending=True).values)
    ordered = gram[order[0]][:, order[0]]
    product = root[0].t() @ root[0] @ _damped(ordered)
    assert torch.allclose(product, torch.eye(9).double(), atol=1e-8)


def test_groups_stay_together_and_a_short_one_stays_last(make_problem: Callable[..., Any]) -> None:
    _, gram = make_problem(4, 1, 11, 80)
    order, root = Gram(gram).groups_by_activity(4)
    assert sorted(order.tolist()) == list(range(11))
    groups = [{int(c) // 4 for c in order[start : start + 4]} for start in (0, 4, 8)]
    energy = [float(gram.diagonal()[4 * g : 4 * g + 4].sum()) for g in (0, 1)]
    assert groups == ([{0}, {1}, {2}] if energy[0] >= energy[1] else [{1}, {0}, {2}])
    product = root[0].t() @ root[0] @ _damped(gram[order][:, order])
    assert torch.allclose(product, torch.eye(11).double(), atol=1e-8)


@pytest.mark.parametrize("shape", [(5,), (5, 5), (3, 5, 5)])
def test_the_square_form_has_a_matrix_for_each_group(shape: tuple[int, ...]) -> None:
    values = torch.rand(*shape, dtype=torch.float64)
    gram = Gram(values)
    expected = torch.diag(values) if len(shape) == 1 else values
    assert torch.equal(gram.square, expected.reshape(-1, 5, 5))
    assert gram.compensates == (len(shape) > 1)


def test_under_a_root_weights_are_left_to_themselves() -> None:
    assert not Gram(torch.rand(4, 5, dtype=torch.float64)).compensates


def test_factorizations_are_made_once(make_problem: Callable[..., Any]) -> None:
    gram = Gram(make_problem(1, 1, 8, 50)[1])
    assert gram.inverse_root is gram.inverse_root
    assert gram.by_activity is gram.by_activity
    assert gram.groups_by_activity(4) is gram.groups_by_activity(4)
    assert gram.groups_by_activity(2) is not gram.groups_by_activity(4)


def test_the_last_group_is_filled_with_zeros() -> None:
    found = in_groups(torch.arange(1.0, 6.0).unsqueeze(0), 3)
    assert found.tolist() == [[[1.0, 2.0, 3.0], [4.0, 5.0, 0.0]]]


def test_codes_found_with_a_wide_grams_root_are_those_of_float64(
    make_problem: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Few samples and inputs of very different sizes: the hardest Gram that is still damped by 1 %.
    weight, gram = make_problem(8, 16, 1100, 300)
    sizes = 10 ** torch.linspace(-3, 0, 1100, dtype=torch.float64)
    gram = gram * sizes * sizes.unsqueeze(1)
    assert module._WIDE <= 1100
    narrow, wide = Target.of(weight, gram), Target.of(weight, gram)
    found = gptq(wide, 4)
    monkeypatch.setattr(module, "_WIDE", 2000)
    expected = gptq(narrow, 4)
    assert (found.codes != expected.codes).double().mean() <= 1e-4
    errors = [float(narrow.refit(codes).error.sum()) for codes in (found, expected)]
    assert errors[0] == pytest.approx(errors[1], rel=1e-3)
