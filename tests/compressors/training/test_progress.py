"""How far a training is: means of losses, the best state, the share of codes that flip."""

import math
from dataclasses import replace

import pytest
import torch

from paredown.compressors.training.progress import Average, Best, Moving, Progress
from paredown.compressors.training.quantizers.table import QUANTIZERS
from paredown.compressors.training.trainable import Trainable, View


def moving_of(model):
    trainable = Trainable(model)
    groups = [{"params": [x.parameter], "lr": 1e-2 * x.unit} for x in trainable.learned()]
    optimizer = torch.optim.AdamW(groups)
    return Moving(trainable, optimizer, Average(trainable, 0.5), Best(trainable))


def step(moving, inputs, number):
    moving.optimizer.zero_grad()
    moving.trainable([inputs])[0].square().sum().backward()
    moving.optimizer.step()
    moving.average.add(number)


def test_a_point_has_the_mean_of_the_losses_since_the_last(small):
    progress = Progress()
    progress.look(small[0], 9.0)
    for loss in (1.0, 3.0):
        progress.add(loss)
    progress.look(small[0], 8.0)
    progress.add(5.0)
    progress.look(small[0], 7.0)
    assert [(p.step, p.loss, p.held_out_loss) for p in progress.curve] == [
        (0, 9.0, 9.0),
        (2, 2.0, 8.0),
        (3, 5.0, 7.0),
    ]


def test_flips_are_the_share_of_codes_that_are_others(small):
    model, _ = small
    coded = {n: x for n, x in model.stored.items() if x.scale is not None}
    name, tensor = next(iter(coded.items()))
    codes = tensor.values.clone()
    codes[0, :3] = torch.where(codes[0, :3] == 1, -1, 1).to(torch.int8)
    changed = int((codes != tensor.values).sum())
    other = replace(model, stored={**model.stored, name: replace(tensor, values=codes)})
    progress = Progress()
    for each in (model, model, other):
        progress.look(each, 1.0)
    total = sum(x.values.numel() for x in coded.values())
    assert changed == 3
    assert [p.flips for p in progress.curve] == [0, 0, pytest.approx(3 / total)]


def test_the_best_is_remembered_as_it_was(small):
    trainable = Trainable(small[0])
    best = Best(trainable)
    assert best.loss == math.inf
    best.take(trainable, 2.0)
    with torch.no_grad():
        for each in trainable.learned():
            each.parameter.add_(1.0)
    assert best.loss == 2.0
    now = trainable.state_dict()
    assert any(not torch.equal(x, now[n]) for n, x in best.state.items())


def test_all_of_it_is_saved_and_goes_on_alike(small):
    model, data = small
    inputs = data.inputs[:8]
    first, progress = moving_of(model), Progress()
    progress.look(model, 3.0)
    for number in range(1, 4):
        step(first, inputs, number)
        progress.add(float(number))
    progress.look(first.trainable.freeze(), 2.0)
    first.best.take(first.trainable, 2.0)
    step(first, inputs, 4)
    progress.add(4.0)
    saved = progress.saved(first)
    copies = {n: x.clone() for n, x in saved.items()}

    second, again = moving_of(model), Progress()
    step(first, inputs, 5)
    assert all(torch.equal(x, copies[n]) for n, x in saved.items() if n != "curve"), "apart"
    again.restore(copies, second)
    step(second, inputs, 5)
    assert (again.step, again.total, again.count) == (4, 4.0, 1)
    assert again.curve == progress.curve
    assert second.best.loss == 2.0
    for one, other in (
        (first.best.state, second.best.state),
        (first.average.values, second.average.values),
        (first.trainable.state_dict(), second.trainable.state_dict()),
        (progress.codes, again.codes),
    ):
        assert one.keys() == other.keys()
        assert all(torch.equal(x, other[n]) for n, x in one.items())


@pytest.fixture(params=QUANTIZERS)
def trainable(request, small):
    return Trainable(small[0], View(quantizer=request.param))


def values(trainable):
    return {n: x.detach().clone() for n, x in trainable.named_parameters()}


def move(trainable, by):
    with torch.no_grad():
        for each in trainable.learned():
            each.parameter.add_(by * each.unit)


def test_the_average_is_the_exponential_one(trainable):
    average = Average(trainable, decay=0.75)
    wanted = values(trainable)
    for step in range(1, 41):
        move(trainable, 0.01)
        average.add(step)
        decay = min(0.75, (1 + step) / (10 + step))
        wanted = {n: decay * wanted[n] + (1 - decay) * x for n, x in values(trainable).items()}
    assert wanted.keys() == average.values.keys()
    assert all(torch.allclose(x, average.values[n], atol=1e-5) for n, x in wanted.items())


def test_it_is_applied_inside_alone(trainable):
    average = Average(trainable, decay=0.9)
    first = values(trainable)
    move(trainable, 0.3)
    with torch.no_grad():
        trainable.after_step()
    before = {n: x.clone() for n, x in trainable.state_dict().items()}
    with average.applied():
        inside = values(trainable)
    assert all(torch.allclose(x, first[n]) for n, x in inside.items())
    after = trainable.state_dict()
    assert all(torch.equal(x, after[n]) for n, x in before.items())


def test_codes_inside_are_those_of_the_averages(small):
    trainable = Trainable(small[0], View(quantizer="laq"))
    average = Average(trainable, decay=0.9)
    first = trainable.freeze()
    with torch.no_grad():
        for each in trainable.learned():
            each.parameter.neg_()
        trainable.after_step()
    turned = trainable.freeze()
    with average.applied():
        inside = trainable.freeze()
    name = next(n for n, x in first.stored.items() if x.scale is not None)
    assert torch.equal(inside.stored[name].values, first.stored[name].values)
    assert torch.equal(turned.stored[name].values, -first.stored[name].values)


def test_without_a_decay_nothing_is_kept(trainable):
    average = Average(trainable, decay=0.0)
    move(trainable, 0.1)
    average.add(1)
    now = values(trainable)
    with average.applied():
        assert all(torch.equal(x, now[n]) for n, x in values(trainable).items())
    assert average.values == {}
