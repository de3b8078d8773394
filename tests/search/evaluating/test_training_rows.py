"""The training split as trainers take it: every row once, some never."""

import pytest
import torch

from paredown.search.evaluating.training_rows import TrainingRows
from paredown.spaces.candidates.candidate import Candidate


@pytest.fixture
def rows(workbench):
    """(keyword arguments) -> seventy training rows of the digits."""

    def make(**more) -> TrainingRows:
        return TrainingRows(
            split=workbench.task.splits.open_train().take(torch.arange(70)),
            graph=workbench.databases[""].model_map.graph,
            task_loss=workbench.task.loss,
            reference=workbench.assemble(Candidate()),
            class_dim=workbench.task.class_dim,
            **more,
        )

    return make


def sums(batches) -> list[float]:
    """Something of every row that hardly two rows share, sorted."""
    return sorted(torch.cat([b.inputs[0].flatten(1).square().sum(1) for b in batches]).tolist())


def test_rows_are_the_split_once_less_what_is_held_out(rows):
    data = rows(held_out_rows=10)
    batches, held = list(data.batches(32, seed=3)), list(data.held_out(32))
    assert [len(b.targets) for b in batches] == [32, 28]
    assert [len(b.targets) for b in held] == [10]
    whole = data.split.rows(0, 70)[0][0]
    assert sums([*batches, *held]) == pytest.approx(
        sorted(whole.flatten(1).square().sum(1).tolist())
    )
    numbers = torch.cat([b.rows for b in (*batches, *held)])
    assert sorted(numbers.tolist()) == list(range(70))
    for number, x in zip(batches[0].rows.tolist(), batches[0].inputs[0], strict=True):
        assert torch.equal(x, whole[number])


def test_the_order_is_drawn_by_seed_and_what_is_held_out_is_not(rows):
    data = rows(held_out_rows=10)
    one, again, other = (next(data.batches(32, seed=s)) for s in (3, 3, 4))
    assert torch.equal(one.inputs[0], again.inputs[0])
    assert not torch.equal(one.inputs[0], other.inputs[0])
    held = next(data.held_out(32)).rows
    assert not set(held.tolist()) & set(torch.cat([b.rows for b in data.batches(32, 4)]).tolist())


def test_at_most_a_fifth_is_held_out(rows):
    assert len(next(rows(held_out_rows=1000).held_out(100)).targets) == 14


def test_augmented_rows_have_no_number_and_held_out_ones_stay(rows):
    data = rows(augment=lambda inputs, generator: tuple(x + 100 for x in inputs))
    batch, held = next(data.batches(8, seed=0)), next(data.held_out(8))
    assert batch.rows is None
    assert float(batch.inputs[0].mean()) > 50
    assert held.rows is not None
    assert float(held.inputs[0].mean()) < 50


def test_the_loss_is_the_tasks_with_a_gradient(rows):
    data = rows()
    outputs = torch.zeros(6, 10, requires_grad=True)
    loss = data.loss((outputs,), torch.arange(6))
    # Ten classes alike: the cross-entropy is ln 10.
    assert float(loss.detach()) == pytest.approx(2.302585, rel=1e-5)
    loss.backward()
    assert outputs.grad is not None
