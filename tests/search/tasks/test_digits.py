"""The digits: split without overlap, trained once and always alike."""

import torch

from paredown.search.tasks import digits


def test_digits_splits_share_no_image_and_hold_every_digit_equally():
    parts = {name: digits.digits_split(name, 3) for name in ("train", "search", "test")}
    assert sum(len(part) for part in parts.values()) == 1797
    images = torch.cat([part.inputs[0].flatten(1) for part in parts.values()])
    # Sorted rows equal those of the whole data set: a partition, each image once.
    whole = digits._load()[0].flatten(1)
    assert sorted(map(tuple, images.tolist())) == sorted(map(tuple, whole.tolist()))
    for part in parts.values():
        shares = torch.bincount(part.targets, minlength=10) / len(part)
        assert shares.max() - shares.min() < 0.015


def test_training_is_deterministic_and_leaves_the_global_generator_alone(monkeypatch):
    monkeypatch.setattr(digits, "_EPOCHS", 1)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = digits._train(0, 16)
    assert torch.equal(torch.rand(1), expected)
    second, other = digits._train(0, 16), digits._train(1, 16)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_digits_are_trained_once_and_then_read_from_the_cache(own_cache, monkeypatch):
    calls = []
    train = digits._train
    monkeypatch.setattr(digits, "_EPOCHS", 1)
    monkeypatch.setattr(digits, "_train", lambda *args: calls.append(args) or train(*args))
    first, second = digits.trained_digits(0, 16), digits.trained_digits(0, 16)
    assert calls == [(0, 16)]
    assert torch.equal(first.linear.weight, second.linear.weight)
    digits.trained_digits(1, 16)
    assert len(calls) == 2
