"""Splits: order, compactness, and pairs that stay together."""

import pytest
import torch

from paredown.search.tasks.splits import DataError, Split, of_length


def numbers(count, start=0):
    values = torch.arange(start, start + count)
    return values.float().unsqueeze(1), values


def test_batches_cover_the_rows_in_order_and_are_prepared_one_by_one():
    seen = []

    def prepare(inputs):
        seen.append(len(inputs[0]))
        return (inputs[0].float() / 2,)

    images = torch.arange(10, dtype=torch.uint8).unsqueeze(1)
    split = Split(inputs=(images,), targets=torch.arange(10), prepare=prepare)
    batches = list(split.batches(4, rows=9))
    assert seen == [4, 4, 1]
    assert torch.cat([x[0] for x, _ in batches]).flatten().tolist() == [i / 2 for i in range(9)]
    assert torch.cat([y for _, y in batches]).tolist() == list(range(9))
    assert len(list(split.batches(4, rows=99))) == 3


def test_shuffling_keeps_pairs_together_and_follows_the_seed():
    inputs, targets = numbers(50)
    split = Split(inputs=(inputs,), targets=targets)
    drawn = split.shuffled(20, seed=1)
    assert len(drawn) == 20
    assert drawn.inputs[0].flatten().long().tolist() == drawn.targets.tolist()
    assert drawn.targets.tolist() != sorted(drawn.targets.tolist())
    assert torch.equal(drawn.targets, split.shuffled(20, seed=1).targets)
    assert len(split.shuffled(999, seed=1).targets.unique()) == 50


def test_rows_that_do_not_match_are_refused():
    with pytest.raises(DataError, match="number of rows"):
        Split(inputs=(torch.zeros(3, 1),), targets=torch.zeros(4))
    with pytest.raises(DataError, match="number of rows"):
        Split(inputs=(torch.zeros(0, 1),), targets=torch.zeros(0))


def test_inputs_take_another_length_where_they_have_time() -> None:
    ids, mask, image = torch.arange(8).view(2, 4), torch.ones(2, 4), torch.ones(2, 3, 5)
    longer = of_length({"ids": ids, "mask": mask, "image": image}, 6)
    assert longer["ids"].tolist() == [[0, 1, 2, 3, 0, 1], [4, 5, 6, 7, 4, 5]]
    assert longer["mask"].shape == (2, 6)
    assert longer["image"] is image
    assert of_length([ids], 2)[0].tolist() == [[0, 1], [4, 5]]
    flat = torch.ones(3)
    assert of_length([flat], 2)[0] is flat
