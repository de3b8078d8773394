"""What a data factory of the user's own may return, and when its splits are opened."""

import numpy as np
import pytest
import torch

from paredown.search.tasks.custom_data import read_splits
from paredown.search.tasks.splits import DataError


def numbers(count, start=0):
    values = torch.arange(start, start + count)
    return values.float().unsqueeze(1), values


def test_the_test_split_stays_closed_until_it_is_opened():
    opened = []

    def open_test():
        opened.append(True)
        return numbers(5)

    data = {"train": numbers(30), "search": numbers(10), "test": open_test}
    splits = read_splits(data, "my:data", 8, seed=0)
    assert not opened
    assert len(splits.calibration) == 8
    assert len(splits.open_test()) == 5
    assert opened


def test_calibration_of_the_users_own_is_used_whole_and_shuffled():
    data = {"train": numbers(9), "search": numbers(9), "test": numbers(9)}
    splits = read_splits({**data, "calibration": numbers(40, start=100)}, "my:data", 8, seed=0)
    values = splits.calibration.targets.tolist()
    assert sorted(values) == list(range(100, 140))
    assert values != sorted(values)


def test_datasets_arrays_dicts_and_two_targets_are_read():
    rows = [({"a": np.float32(i), "b": torch.tensor([i])}, i) for i in range(6)]
    arrays = (np.zeros((6, 2), np.float32), np.arange(6))
    two = ((torch.zeros(6, 1), torch.ones(6, 1)), (torch.zeros(6), torch.ones(6)))
    splits = read_splits({"train": rows, "search": arrays, "test": two}, "my:data", 6, seed=0)
    inputs, _ = splits.open_train().rows(2, 4)
    assert list(inputs) == ["a", "b"]
    assert inputs["b"].tolist() == [[2], [3]]
    assert splits.search.targets.tolist() == list(range(6))
    inputs, targets = splits.open_test().rows(0, 3)
    assert len(inputs) == 2
    assert targets[1].tolist() == [1, 1, 1]


def test_the_users_prepare_gets_inputs_as_they_were_stored():
    def scale(images):
        return images.float() / 255

    images = torch.full((4, 3), 255, dtype=torch.uint8)
    pair = (images, torch.zeros(4))
    data = {"train": pair, "search": pair, "test": pair, "prepare": scale}
    splits = read_splits(data, "my:data", 4, seed=0)
    assert splits.search.inputs[0].dtype == torch.uint8
    assert splits.search.rows(0, 4)[0][0].tolist() == [[1.0] * 3] * 4
    named = ({"x": images}, torch.zeros(4))
    data = {"train": named, "search": named, "test": named}
    splits = read_splits({**data, "prepare": lambda d: {"x": d["x"] * 0}}, "my:data", 4, seed=0)
    assert splits.search.rows(0, 4)[0]["x"].sum() == 0


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (3, "must return a mapping"),
        ({"train": 1, "search": 1}, "must return a mapping"),
        ({"train": 1, "search": 1, "test": 1, "tset": 1}, "tset"),
        ({"train": numbers(3), "search": 7, "test": 1}, "'search'"),
        ({"train": numbers(3), "search": (["a"], torch.zeros(1)), "test": 1}, "tensors or arrays"),
        ({"train": [(torch.zeros(1), 0), (torch.zeros(2), 0)], "search": 1, "test": 1}, "pad"),
    ],
)
def test_data_of_another_form_are_refused_by_name(data, says):
    with pytest.raises(DataError, match=says):
        read_splits(data, "my:data", 2, seed=0)


def test_rows_of_the_users_data_that_do_not_match_are_told_with_their_split():
    inputs, targets = numbers(8)
    good, bad = (inputs, targets), (inputs, targets[:5])
    with pytest.raises(DataError, match=r"my:data: split 'train': .*\[5, 8\]"):
        read_splits({"train": bad, "search": good, "test": good}, "my:data", 4, seed=0)
    with pytest.raises(DataError, match=r"my:data: split 'search': .*\[5, 8\]"):
        read_splits({"train": good, "search": bad, "test": good}, "my:data", 4, seed=0)
