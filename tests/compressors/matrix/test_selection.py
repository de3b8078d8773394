from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paredown.compressors.matrix.selection import smallest


@given(
    values=st.lists(st.sampled_from([0.0, -0.0, 1.0, 2.5, -3.0, float("inf")]), max_size=30),
    share=st.floats(0, 1),
)
def test_it_takes_what_a_stable_sort_puts_first(values: list[float], share: float) -> None:
    tensor = torch.tensor(values, dtype=torch.float64)
    count = round(share * len(values))
    expected = torch.zeros(len(values), dtype=torch.bool)
    expected[tensor.argsort(stable=True)[:count]] = True
    assert torch.equal(smallest(tensor, count), expected)


@pytest.mark.parametrize("count", [0, 2, 3, 4])
def test_nan_goes_last_and_the_count_is_kept(count: int) -> None:
    mask = smallest(torch.tensor([[float("nan"), 1.0], [0.0, float("nan")]]), count)
    assert mask.shape == (2, 2)
    assert int(mask.sum()) == count
    assert count < 2 or (mask[0, 1] and mask[1, 0])
