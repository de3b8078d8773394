"""Averages of what learns: in place while they are looked at, and gone afterwards."""

import pytest
import torch

from paredown.compressors.training.averaging import Average
from paredown.compressors.training.quantizers import QUANTIZERS
from paredown.compressors.training.trainable import Trainable, View


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
