"""Supports of sparse tensors: those that stay are favoured, and late ones are not exchanged."""

import torch

from paredown.compressors.storage.stored import StoredTensor
from paredown.compressors.training.quantizers.supports import Support
from paredown.spaces.candidates.blueprint import Storage


def support_of(mask, index="bitmap", axis=0):
    mask = torch.tensor(mask)
    storage = Storage(
        shape=tuple(mask.shape), bits=4, axis=axis, kept=int(mask.sum()), index=index
    )
    codes = mask.to(torch.int8)
    scale = torch.ones(storage.scale_shape)
    return Support(StoredTensor(storage=storage, values=codes, scale=scale, mask=mask))


def test_the_largest_savings_are_kept():
    support = support_of([[True, True, False, False]])
    support.rank(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), 0.0)
    assert support.mask.tolist() == [[False, False, True, True]]


def test_what_is_kept_is_favoured_ever_more():
    savings = torch.tensor([[1.0, 5.0]])
    for progress, exchanged in ((0.0, True), (0.2, True), (0.35, False), (0.6, False)):
        support = support_of([[True, False]])
        support.rank(savings, progress)
        # Favour (1 - progress / 0.7)^-3: 1, 2.7, 8 and 343 against 5.
        assert support.mask.tolist() == [[not exchanged, exchanged]], progress


def test_nothing_is_exchanged_from_seventy_percent_on():
    for progress in (0.7, 0.9, 1.0):
        support = support_of([[True, False]])
        support.rank(torch.tensor([[-5.0, 1e6]]), progress)
        assert support.mask.tolist() == [[True, False]]


def test_a_negative_saving_of_what_is_kept_is_not_made_worse_by_favour():
    support = support_of([[True, False]])
    support.rank(torch.tensor([[-1.0, -0.5]]), 0.5)
    assert support.mask.tolist() == [[True, False]]


def test_two_of_four_stay_in_each_group_and_the_rest_whole():
    support = support_of([[True, True, False, False, True]], index="2:4")
    support.rank(torch.tensor([[1.0, 4.0, 3.0, 2.0, -9.0]]), 0.0)
    assert support.mask.tolist() == [[False, True, True, False, True]]


def test_blocks_move_whole_by_their_sums_and_the_rest_stays():
    support = support_of([[True] * 4 + [False] * 4 + [True]] * 2, index="block")
    savings = torch.tensor([[1.0] * 4 + [0.0, 0.0, 0.0, 5.0, -1.0], [0.1] * 4 + [0.0] * 4 + [0.0]])
    support.rank(savings, 0.0)
    # Sums 4, 5 in the first row and 0.4, 0 in the second: two blocks in all.
    assert support.mask.tolist() == [[True] * 9, [False] * 8 + [True]]


def test_groups_follow_the_axis():
    rows = [[True], [True], [False], [False]]
    support = support_of(rows, index="2:4", axis=1)
    support.rank(torch.tensor([[1.0], [2.0], [3.0], [4.0]]), 0.0)
    assert support.mask.tolist() == [[False], [False], [True], [True]]


def test_a_dense_tensor_has_no_support():
    storage = Storage(shape=(1, 2), bits=4, kept=2)
    codes = torch.ones(1, 2, dtype=torch.int8)
    support = Support(StoredTensor(storage=storage, values=codes, scale=torch.ones(1)))
    support.rank(torch.zeros(1, 2), 0.0)
    assert support.mask is None
    assert support.state_dict() == {}
